"""One line on one's own photographs: which config, with which values, run as tools/train.py runs it."""

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from ..datasets.sources.image_files import find_images
from ..datasets.sources.image_folder import UnlabelledImages
from ..datasets.sources.labelled_images import LabelledImages
from ..engine import apply_options, build_runner, load_config
from ..engine.checkpoint.safe_checkpoint import saved_checkpoints
from ..engine.config_check import require_sound_values
from ..zoo.entries import CONFIGS
from .machine import batch_size, loader_workers, precision_in_words
from .teacher_names import DEFAULT_TEACHER, teacher_config
from .time_estimate import TimeEstimateHook

# The package's config for each student and purpose.
STUDENTS = {
    'vit-tiny': dict(
        pretrain='mvp/vittiny_debug.py',
        finetune='finetune/vittiny_debug.py',
        probe='linear_probe/vittiny_debug.py',
        segment='upernet/vittiny_custom.py',
    ),
    'vit-base': dict(
        pretrain='mvp/vitb16_in1k.py',
        finetune='finetune/vitb16_in1k.py',
        probe='linear_probe/vitb16_in1k.py',
        segment='upernet/vitb16_custom_512x512.py',
    ),
    'vit-large': dict(pretrain='mvp/vitl16_in1k.py', finetune='finetune/vitl16_in1k.py'),
}
DATA = 'dataset.data_root'


def pretrain(
    data: str | Path,
    out: str | Path,
    student: str = 'vit-base',
    teacher: str = DEFAULT_TEACHER,
    epochs: int | None = None,
    batch: int | None = None,
    options: dict[str, Any] | None = None,
    dry_run: bool = False,
) -> Path:
    """Pre-train a student on a folder of images by MVP.

    Args:
        data: Folder; every image at any depth below its ``train``, or below itself, is used.
        out: Folder for the config that is run, logs and checkpoints. A run that was begun there goes on.
        student: ``'vit-tiny'`` (4 layers, 64 pixels, for a CPU), ``'vit-base'`` or ``'vit-large'``.
        teacher: ``MODEL/TAG`` or ``MODEL/FILE`` of open_clip, a folder with ``open_clip_config.json``,
            ``hf-hub:owner/name``, ``timm:MODEL`` or ``timm:MODEL/FILE``, the name of a teacher of the zoo
            such as ``teachers_clip_vittiny_scenes``, or ``MODEL/random`` for a test.
        epochs: Default None: the recipe's. The warm-up keeps its share of them.
        batch: Images an iteration. Default None: what the machine holds; the recipe's total batch is made
            up by accumulation.
        options: Config values to override, by dotted key, as ``--cfg-options`` of ``tools/train.py``.
        dry_run: Write the config and do not run it. Default False.

    Returns:
        The config that was written: ``out/pretrain.py``.

    Raises:
        FileNotFoundError: If there is no image, or no such teacher's weights.
        ValueError: If a name is unknown.
    """
    _require_request(data, epochs, batch)
    images = len(UnlabelledImages(str(data), split='train'))
    values = {f'train_dataloader.{DATA}': str(data), f'test_dataloader.{DATA}': str(data)}
    path = _config('pretrain', student)
    cfg = load_config(path, str(out), 'none', values)
    _set_teacher(cfg, teacher)
    return _run(cfg, 'pretrain', Path(out), images, epochs, batch, options, dry_run)


def finetune(
    data: str | Path,
    out: str | Path,
    checkpoint: str | None,
    student: str = 'vit-base',
    epochs: int | None = None,
    batch: int | None = None,
    options: dict[str, Any] | None = None,
    dry_run: bool = False,
    task: str = 'classification',
    classes: list[str] | None = None,
    iterations: int | None = None,
    image_suffix: str = '.jpg',
) -> Path:
    """Fine-tune a pre-trained student: a classifier, or UperNet for segmentation.

    Arguments not listed are as for :func:`pretrain`.

    Args:
        data: Folder with ``{train,val}/<class>/*``. For segmentation with ``images/{train,val}`` and
            ``annotations/{train,val}``: a PNG for each image, of the same name, whose values are class
            numbers from 0; 255 is ignored.
        checkpoint: A pre-training checkpoint as it is, or any BEiT-family weight file or its address; None
            trains from scratch.
        student: What the checkpoint is of.
        task: ``'classification'`` or ``'segmentation'``.
        classes: For segmentation: names, in the order of the numbers.
        iterations: For segmentation, in place of epochs. Default None: the recipe's.
        image_suffix: For segmentation: what the images' names end with.

    Returns:
        The config that was written: ``out/finetune.py``.

    Raises:
        FileNotFoundError: If there is no such folder or file.
        ValueError: If a name is unknown, or an argument is of the other task.
    """
    if task == 'segmentation':
        if epochs is not None:
            raise ValueError('a segmentation is trained by iterations: give --iterations, not --epochs')
        return _segment(
            data, out, checkpoint, classes or [], student, iterations, batch, image_suffix, options, dry_run
        )
    if task != 'classification':
        raise ValueError(f'there is no task {task!r}: expected classification or segmentation')
    if classes is not None or iterations is not None:
        raise ValueError('--classes and --iterations are for --task segmentation')
    return _classify('finetune', data, out, checkpoint, student, epochs, batch, options, dry_run)


def probe(
    data: str | Path,
    out: str | Path,
    checkpoint: str | None,
    student: str = 'vit-base',
    epochs: int | None = None,
    batch: int | None = None,
    options: dict[str, Any] | None = None,
    dry_run: bool = False,
) -> Path:
    """Train linear classifiers on a frozen student, otherwise as :func:`finetune`; ``out/probe.py``."""
    return _classify('probe', data, out, checkpoint, student, epochs, batch, options, dry_run)


def _segment(
    data: str | Path,
    out: str | Path,
    checkpoint: str | None,
    classes: list[str],
    student: str,
    iterations: int | None,
    batch: int | None,
    image_suffix: str,
    options: dict[str, Any] | None,
    dry_run: bool,
) -> Path:
    _require_request(data, iterations, batch)
    if len(classes) < 2:
        raise ValueError(f'segmentation needs two classes or more, got {classes}: background counts as one')
    if len(set(classes)) < len(classes) or not all(name.strip() for name in classes):
        raise ValueError(f'classes {classes}: every class needs a name of its own')
    colours = np.random.default_rng(0).integers(0, 256, (len(classes), 3)).tolist()
    values = {'model.decode_head.num_classes': len(classes), 'model.auxiliary_head.num_classes': len(classes)}
    for phase in ('train', 'val', 'test'):
        dataset = f'{phase}_dataloader.dataset'
        values[f'{dataset}.data_root'] = str(data)
        values[f'{dataset}.img_suffix'] = image_suffix
        values[f'{dataset}.metainfo'] = dict(classes=tuple(classes), palette=colours)
    cfg = load_config(_config('segment', student), str(out), 'none', {**values, **_start(checkpoint)})
    folder = Path(data) / 'images/train'
    if not folder.is_dir():
        raise FileNotFoundError(f'there is no folder {folder}: expected images/train and annotations/train')
    images = len(find_images(folder, (image_suffix,)).paths)
    if not images:
        raise FileNotFoundError(f'no image in {folder} ends with {image_suffix}: give --image-suffix')
    return _run(cfg, 'finetune', Path(out), images, iterations, batch, options, dry_run)


def _classify(kind, data, out, checkpoint, student, epochs, batch, options, dry_run) -> Path:
    _require_request(data, epochs, batch)
    images = LabelledImages(str(data), split='train')
    values = {'model.head.num_classes': len(images.CLASSES)}
    for phase in ('train', 'val', 'test'):
        values[f'{phase}_dataloader.{DATA}'] = str(data)
    cfg = load_config(_config(kind, student), str(out), 'none', {**values, **_start(checkpoint)})
    return _run(cfg, kind, Path(out), len(images), epochs, batch, options, dry_run)


def _require_request(data: str | Path, length: int | None, batch: int | None) -> None:
    """Refuse what nothing can be trained on, or with, before anything is read."""
    if not str(data).strip():
        raise ValueError("data='' names no folder: give the folder of the data, or . for the current one")
    for name, value in (('epochs or iterations', length), ('batch', batch)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise ValueError(f'{name}: {value!r} is no whole number of 1 or more')


def _config(kind: str, student: str) -> str:
    if student not in STUDENTS:
        raise ValueError(f'there is no student {student!r}; there is: {", ".join(STUDENTS)}')
    if kind not in STUDENTS[student]:
        able = ', '.join(name for name, kinds in STUDENTS.items() if kind in kinds)
        raise ValueError(f'there is no config to {kind} with {student}; there is with: {able}')
    return str(CONFIGS / STUDENTS[student][kind])


def _start(checkpoint: str | None) -> dict[str, Any]:
    if checkpoint is None:
        return {'model.backbone.init_cfg': None}
    if '://' not in checkpoint and not Path(checkpoint).exists():
        raise FileNotFoundError(f'there is no checkpoint {checkpoint}')
    return {'model.backbone.init_cfg.checkpoint': checkpoint}


def _set_teacher(cfg: Config, teacher: str) -> None:
    """Write a teacher into a pre-training config, and its width into the neck."""
    generator, width = teacher_config(teacher)
    cfg.model.target_generator = dict(generator, patch_size=cfg.model.backbone.patch_size)
    cfg.model.neck.out_channels = width


def _run(
    cfg: Config,
    kind: str,
    out: Path,
    images: int,
    length: int | None,
    batch: int | None,
    options: dict[str, Any] | None,
    dry_run: bool,
) -> Path:
    """Fit a config to the machine, write it, and run what was written as ``tools/train.py`` does."""
    if options:  # checked before a model is tried for its batch, and merged into what is written below
        trial = copy.deepcopy(cfg)
        apply_options(trial, options)
        require_sound_values(trial)
    if length is not None:
        set_length(cfg, length)
    for phase in ('train', 'val', 'test'):
        loader = cfg.get(f'{phase}_dataloader')
        if loader:
            loader.num_workers = loader_workers(loader.num_workers)
    cfg.train_dataloader.batch_size = batch or batch_size(cfg, images)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f'{kind}.py'
    temporary = out / f'.{kind}.{os.getpid()}.py'
    cfg.dump(temporary)
    os.replace(temporary, path)
    cfg = load_config(str(path), str(out), 'none', options)
    if options:
        cfg.dump(path)
    total = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
    print(
        f'{path}: {images:,} images; on this {device} {cfg.train_dataloader.batch_size} an iteration '
        f'(the recipe: {total} a step), {cfg.train_dataloader.num_workers} loader workers, '
        f'{precision_in_words(cfg)}'
    )
    if torch.cuda.device_count() > 1:
        print(
            f'This runs on one GPU. On all {torch.cuda.device_count()}: bash tools/dist_train.sh {path} '
            f'{torch.cuda.device_count()} --work-dir {out} --resume'
        )
    if dry_run:
        return path
    cfg.resume = bool(saved_checkpoints(out))
    if cfg.resume:
        cfg.load_from = None  # what the run began from; it goes on from its own last checkpoint
    runner = build_runner(cfg)
    runner.register_hook(TimeEstimateHook())
    runner.train()
    checkpoint = saved_checkpoints(out)[0]
    print(f'\nDone: {checkpoint}, a checkpoint of {path}')
    if kind == 'pretrain':
        print(f'Next, for example: mvp-mm export timm {checkpoint} {out / "student.safetensors"}')
    return path


def set_length(cfg: Config, length: int) -> None:
    """Stretch or shorten a config's training with its schedule.

    Args:
        cfg: Changed in place.
        length: Epochs, or iterations where the config counts those.

    Raises:
        ValueError: If it is not positive.
    """
    if length < 1:
        raise ValueError(f'a training of {length} epochs or iterations: expected 1 or more')
    key = 'max_iters' if 'max_iters' in cfg.train_cfg else 'max_epochs'
    share = length / cfg.train_cfg[key]
    schedulers = cfg.param_scheduler if isinstance(cfg.param_scheduler, list) else [cfg.param_scheduler]
    for scheduler in schedulers:
        for edge in ('begin', 'end'):
            # whole numbers, as MMEngine wants them; a warm-up of no length is dropped below
            scheduler[edge] = round(scheduler.get(edge, 0) * share)
    schedulers[-1].end = length
    cfg.param_scheduler = [scheduler for scheduler in schedulers if scheduler.end > scheduler.begin]
    cfg.train_cfg[key] = length
    if 'val_interval' in cfg.train_cfg:
        cfg.train_cfg.val_interval = min(cfg.train_cfg.val_interval, length)
    checkpoint = cfg.default_hooks.checkpoint
    checkpoint.interval = min(checkpoint.interval, length)
