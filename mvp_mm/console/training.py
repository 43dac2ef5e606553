"""Train on a folder of one's own: choose a config of the package, fill it in, write it, and run it."""

import copy
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device

from ..datasets.sources.image_files import find_images
from ..datasets.sources.image_text_shards import ImageTextShards
from ..datasets.sources.labelled_images import LabelledImages
from ..datasets.sources.open_images import open_images
from ..datasets.sources.shard_files import find_shards
from ..engine import apply_options, build_runner, load_config, plan_total_batch, read_config, resume_last
from ..engine.checkpoint.safe_checkpoint import saved_checkpoints
from ..engine.config_check import require_sound_values
from ..engine.config_check.walk import LOADERS
from ..hardware import automatic_precision, usable_cores
from ..weights.locate import is_address, local_path
from ..whole_file import whole_file
from ..wording import counted
from ..zoo.entries import CONFIGS
from .batch_size import batch_size
from .teacher_names import DEFAULT_TEACHER, TINY_TEACHER, put_teachers
from .timm_students import RANDOM, fit_teacher, is_timm, put_in
from .training_display import TrainingDisplay, described

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
# A network of timm is trained by the recipes of vit-base, and pre-trained from public weights by its own.
GO_ON = 'mvp/timm_vits16_dinov3.py'
STUDENT = ('type', 'arch', 'model_name')  # of a backbone: what tells students apart
LABELS = {
    'pretrain': 'Pre-training',
    'finetune': 'Fine-tuning',
    'probe': 'Linear probe of',
    'segment': 'Training UperNet on',
}


def pretrain(
    data: str | Path,
    out: str | Path,
    student: str = 'vit-base',
    teacher: str | Sequence[str] | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    options: dict[str, Any] | None = None,
    dry_run: bool = False,
    verbose: bool = False,
) -> Path:
    """Pre-train a student on images by MVP.

    Args:
        data: Folder, of which every image at any depth below its ``train``, or below itself, is used; or a
            list of images or shards, as :func:`.open_images` takes them.
        out: Folder for the config that is run, logs and checkpoints. A run that was begun there is resumed.
        student: ``'vit-tiny'`` (4 layers, 64 pixels, for a CPU), ``'vit-base'``, ``'vit-large'``; or
            ``timm:NAME``, which goes on from timm's public weights, ``timm:NAME/random`` from scratch.
        teacher: ``MODEL/TAG`` or ``MODEL/FILE`` of open_clip, a folder with ``open_clip_config.json``,
            ``hf-hub:owner/name``, ``timm:MODEL`` or ``timm:MODEL/FILE``, the name of a teacher of the zoo
            such as ``teachers_clip_vittiny_photographs``, or ``MODEL/random`` for a test. A list: several
            teachers (:class:`MultiTeacherMVP`), which speak through the first CLIP. Default None: OpenAI's
            CLIP ViT-B/16 (paper §3.3.1); for ``'vit-tiny'`` the package's small CLIP of photographs.
        epochs: Default None: the recipe's. The warm-up keeps its share of them.
        batch: Images an iteration. Default None: what the machine holds; the config's total batch is reached
            by accumulation.
        options: Config values to override, by dotted key, as ``--cfg-options`` of ``tools/train.py``.
        dry_run: Write the config and do not run it. Default False.
        verbose: Show MMEngine's log in place of a progress bar. Default False.

    Returns:
        The config that was written: ``out/pretrain.py``.

    Raises:
        FileNotFoundError: If there is no image, or no such teacher's weights.
        ValueError: If a name is unknown.
    """
    job = Job('pretrain', str(data), Path(out), student, epochs, batch, options, dry_run, verbose)
    with job.display:
        images, place = open_images(job.data)
        cfg = job.config('train', 'test')
        for phase in ('train', 'test'):
            cfg[f'{phase}_dataloader'].dataset.update(type=type(images).__name__, **place)
        if isinstance(images, ImageTextShards):
            cfg.train_dataloader.sampler.type = 'ShardSampler'  # which reads a few at a time
        if place != dict(data_root=job.data) or not _has_val(images, job.data):
            cfg.test_dataloader.dataset.split = cfg.train_dataloader.dataset.split
        named = teacher or (TINY_TEACHER if student == 'vit-tiny' else DEFAULT_TEACHER)
        teachers = [named] if isinstance(named, str) else list(dict.fromkeys(named))  # each once
        put_teachers(cfg.model, teachers)
        if is_timm(student):
            fit_teacher(cfg)
        left_out: Any = getattr(images, 'left_out', Counter())  # of a folder
        return job.run(cfg, len(images), left_out, f', taught by {" and ".join(teachers)}')


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
    verbose: bool = False,
) -> Path:
    """Fine-tune a pre-trained student: a classifier, or UperNet for segmentation.

    Arguments that are not listed are those of :func:`pretrain`.

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
        The config that was written: ``out/finetune.py``, for segmentation ``out/segment.py``.

    Raises:
        FileNotFoundError: If there is no such folder or file.
        ValueError: If a name is unknown, or an argument is for the other task.
    """
    if task == 'classification':
        if classes is not None or iterations is not None:
            raise ValueError('--classes and --iterations are for --task segmentation')
        job = Job('finetune', str(data), Path(out), student, epochs, batch, options, dry_run, verbose)
        return _classify(job, checkpoint)
    if task != 'segmentation':
        raise ValueError(f'there is no task {task!r}: expected classification or segmentation')
    if epochs is not None:
        raise ValueError('segmentation is trained by iterations: give --iterations, not --epochs')
    job = Job('segment', str(data), Path(out), student, iterations, batch, options, dry_run, verbose)
    return _segment(job, checkpoint, classes or [], image_suffix)


def probe(
    data: str | Path,
    out: str | Path,
    checkpoint: str | None,
    student: str = 'vit-base',
    epochs: int | None = None,
    batch: int | None = None,
    options: dict[str, Any] | None = None,
    dry_run: bool = False,
    verbose: bool = False,
) -> Path:
    """Train linear classifiers on a frozen student, otherwise as :func:`finetune`; ``out/probe.py``."""
    job = Job('probe', str(data), Path(out), student, epochs, batch, options, dry_run, verbose)
    return _classify(job, checkpoint)


def _classify(job: 'Job', checkpoint: str | None) -> Path:
    with job.display:
        images = LabelledImages(job.data, split='train')
        values = {**_start(checkpoint), 'model.head.num_classes': len(images.CLASSES)}
        return job.run(job.config('train', 'val', 'test', **values), len(images), images.left_out)


def _segment(job: 'Job', checkpoint: str | None, classes: list[str], image_suffix: str) -> Path:
    if len(classes) < 2:
        raise ValueError(
            f'segmentation needs two classes or more, got {classes}: background counts as one. Name them '
            'with --classes'
        )
    if len(set(classes)) < len(classes) or not all(name.strip() for name in classes):
        raise ValueError(f'classes {classes}: every class needs a name of its own')
    values = _start(checkpoint)
    values |= {f'model.{head}.num_classes': len(classes) for head in ('decode_head', 'auxiliary_head')}
    colours = np.random.default_rng(0).integers(0, 256, (len(classes), 3)).tolist()
    for phase in ('train', 'val', 'test'):
        values[f'{phase}_dataloader.dataset.img_suffix'] = image_suffix
        values[f'{phase}_dataloader.dataset.metainfo'] = dict(classes=tuple(classes), palette=colours)
    with job.display:
        cfg = job.config('train', 'val', 'test', **values)
        folder = Path(job.data) / 'images/train'
        if not folder.is_dir():
            raise FileNotFoundError(
                f'there is no folder {folder}: expected images/train and annotations/train'
            )
        images = find_images(folder, (image_suffix,))
        if not images.paths:
            raise FileNotFoundError(f'no image in {folder} ends with {image_suffix}: give --image-suffix')
        return job.run(cfg, len(images.paths), images.left_out)


def _start(checkpoint: str | None) -> dict[str, Any]:
    if checkpoint is None:
        return {'model.backbone.init_cfg': None}
    if not is_timm(checkpoint) and not is_address(checkpoint):
        local_path(checkpoint)  # which says what is wrong with it
    return {'model.backbone.init_cfg.checkpoint': checkpoint}


@dataclass
class Job:
    """A training, by arguments as of :func:`pretrain`; ``length`` is in epochs or iterations."""

    kind: str
    data: str
    out: Path
    student: str
    length: int | None
    batch: int | None
    options: dict[str, Any] | None
    dry_run: bool
    verbose: bool

    def __post_init__(self) -> None:
        if not self.data.strip():
            raise ValueError("data='' names no folder: give the folder of the data, or . for the current one")
        for name, value in (('epochs or iterations', self.length), ('batch', self.batch)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ValueError(f'{name}: {value!r} is no whole number of 1 or more')
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f'{self.out} is a file: expected a folder for the run')
        self.display = TrainingDisplay(self.verbose)

    def config(self, *phases: str, **values: Any) -> Config:
        """Read the package's config, with the folder of the data for some phases and other values."""
        values |= {f'{phase}_dataloader.dataset.data_root': self.data for phase in phases}
        source = str(CONFIGS / config_of(self.student, self.kind))
        cfg = load_config(source, str(self.out), 'none', values)
        if is_timm(self.student):
            put_in(cfg, self.student, self.kind)
        return cfg

    def run(self, cfg: Config, images: int, left_out: Counter[str], remark: str = '') -> Path:
        """Fit a config to the machine, write it, and run what was written as ``tools/train.py`` does."""
        path = self.out / f'{self.kind}.py'
        trial = copy.deepcopy(cfg)
        if self.options:  # checked before a model is tried for its batch, and merged below
            apply_options(trial, self.options)
            require_sound_values(trial)
        self._require_same_start(trial, path)
        if self.length is not None:
            set_length(cfg, self.length)
        for loader in filter(None, map(cfg.get, LOADERS)):
            loader.num_workers = min(loader.num_workers, max(1, usable_cores() - 1))
        cfg.train_dataloader.batch_size = self.batch or batch_size(cfg, images)
        self.out.mkdir(parents=True, exist_ok=True)
        _write(cfg, path)
        cfg = load_config(str(path), str(self.out), 'none', self.options)
        if self.options:
            _write(cfg, path)
        self.display.say(
            f'{LABELS[self.kind]} {self.student}: {counted(images, "image")} of {self.data}{remark}'
        )
        self._summarise(cfg, path, images)
        if left_out:
            endings = (f'{count} {end or "without an ending"}' for end, count in left_out.most_common(5))
            self.display.say(f'  left out {", ".join(endings)}')
        if self.dry_run:
            self.display.say(f'Not run: python tools/train.py {shlex.quote(str(path))} runs this config')
        else:
            self._train(cfg, path)
        return path

    def _require_same_start(self, cfg: Config, path: Path) -> None:
        """Raise ValueError if the run in the folder, which would go on, is of another student or start."""
        if not (path.is_file() and saved_checkpoints(self.out)):
            return
        students = [config.model.backbone for config in (read_config(path), cfg)]
        first, second = ([student.get(key) for key in STUDENT] for student in students)
        if first != second:
            raise ValueError(
                f'{self.out} holds a run of another student, which would go on: choose another --out for '
                f'{self.student}'
            )
        starts = [student.get('init_cfg') or {} for student in students]
        before, now = (start.get('checkpoint') or 'random weights' for start in starts)
        if before != now:
            raise ValueError(
                f'{self.out} holds a run from {before}, which would go on, and this one starts from {now}: '
                'choose another --out'
            )

    def _summarise(self, cfg: Config, path: Path, images: int) -> None:
        loader, source = cfg.train_dataloader, config_of(self.student, self.kind)
        step = counted(loader.batch_size, 'image')
        total = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
        if total and not cfg.auto_scale_lr.get('enable', False):
            per_epoch = None if 'max_iters' in cfg.train_cfg else images // loader.batch_size
            plan = plan_total_batch(total, 1, loader.batch_size, per_epoch)
            if plan.accumulation > 1:
                step += f' x {plan.accumulation} accumulated iterations'
            step += f' (total batch of {source}: {total})'
        precision = cfg.optim_wrapper.get('precision', 'float32')
        if precision == 'auto':
            precision = automatic_precision(get_device())
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
        self.display.say(f'  config   {path}, from {source}')
        self.display.say(f'  batch    {step}')
        workers = counted(loader.num_workers, 'loader worker')
        self.display.say(f'  machine  {device}, {precision}, {workers}')
        if (gpus := torch.cuda.device_count()) > 1:
            words = ['bash', 'tools/dist_train.sh', path, gpus, '--work-dir', self.out, '--resume']
            self.display.say(f'This runs on one GPU. On all {gpus}: {shlex.join(map(str, words))}')

    def _train(self, cfg: Config, path: Path) -> None:
        cfg.resume = resume_last(cfg)  # here a first start is no surprise
        runner = build_runner(cfg)
        self.display.say(f'  log      {runner.log_dir}')
        if not self.verbose:
            runner.register_hook(self.display)
        runner.train()
        last, results = saved_checkpoints(self.out)[0], described(self.display.results)
        self.display.say(f'Done: {last}' + f' ({results})' * bool(results))
        following = {
            'pretrain': ['export', 'timm', last, self.out / 'student.safetensors'],
            'segment': ['segment', 'IMAGE', '--config', path, '--checkpoint', last, '--out', 'pictures'],
        }
        if self.kind in following:
            command = shlex.join(map(str, ['mvp-mm', *following[self.kind]]))
            self.display.say(f'Next, for example: {command}')


def config_of(student: str, kind: str) -> str:
    """Return the package's config for a kind of training; ValueError if there is no such student, or none."""
    if is_timm(student):
        goes_on = kind == 'pretrain' and not student.endswith(RANDOM)
        return GO_ON if goes_on else STUDENTS['vit-base'][kind]
    if student not in STUDENTS:
        raise ValueError(f'there is no student {student!r}; there is: {", ".join(STUDENTS)}, timm:NAME')
    if kind not in STUDENTS[student]:
        able = ', '.join(name for name, kinds in STUDENTS.items() if kind in kinds)
        raise ValueError(f'there is no config to {kind} with {student}; there is with: {able}')
    return STUDENTS[student][kind]


def _has_val(images: Any, place: str) -> bool:
    """Whether there are images for validation; folders are looked into by the dataset."""
    try:
        return not isinstance(images, ImageTextShards) or bool(find_shards(place, 'val'))
    except FileNotFoundError:
        return False


def _write(cfg: Config, path: Path) -> None:
    with whole_file(path, 'free some space, and call again') as temporary:
        temporary.write_text(cfg.pretty_text, encoding='utf-8')


def set_length(cfg: Config, length: int) -> None:
    """Change the length of a config's training in place, and stretch its schedule to it.

    It is in epochs, or in iterations where the config counts those; ValueError if it is not positive.
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
