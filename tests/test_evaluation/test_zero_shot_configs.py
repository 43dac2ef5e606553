"""The configs of configs/zero_shot run through the real runner, on data in each dataset's layout."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import EVALUATORS
from PIL import Image

from mvp_mm.engine import MVPRunner, build_runner, load_config
from mvp_mm.text.class_names import class_names

from ..test_configs import ROOT
from .conftest import speaking_config

NAMES = sorted(path.stem for path in (ROOT / 'configs/zero_shot').glob('*.py'))
# Endings of images and label maps, the file that lists them, labels of the maps without the ignored ones.
LAYOUTS = {
    'ade20k': ('.jpg', '.png', '', range(1, 151)),
    'camvid': ('.jpg', '.png', '', range(11)),
    'cityscapes': ('_leftImg8bit.png', '_gtFine_labelTrainIds.png', '', range(19)),
    'coco_stuff': ('.jpg', '_labelTrainIds.png', '', range(171)),
    'context59': ('.jpg', '.png', 'ImageSets/SegmentationContext/val.txt', range(1, 60)),
    'context60': ('.jpg', '.png', 'ImageSets/SegmentationContext/val.txt', range(60)),
    'voc20': ('.jpg', '.png', 'ImageSets/Segmentation/val.txt', range(1, 21)),
    'voc21': ('.jpg', '.png', 'ImageSets/Segmentation/val.txt', range(21)),
}
CLASSES = dict(voc20='voc21')  # of which the background is left out
OPTIONS = dict(voc20=(None, 0), voc21=(0.1, 0), context60=(0.1, 0))
RUN = ('ade20k', 'voc21')  # through the real runner


def config_of(name, clip, folder):
    """A config with a student and a teacher that run in seconds; its evaluators stay."""
    cfg = load_config(str(ROOT / f'configs/zero_shot/{name}.py'), str(folder / 'run'))
    cfg.model = Config(dict(model=speaking_config(clip))).model
    for evaluator in cfg.evaluators:
        evaluator.dataloader.update(num_workers=0, persistent_workers=False)
    return cfg


def write_images(folder, dataset, images, maps, listed, labels):
    rng = np.random.default_rng(0)
    for number in range(3):
        for kind, ending, place in (('image', images, 'img_path'), ('map', maps, 'seg_map_path')):
            path = folder / dataset.data_prefix[place] / f'{number}{ending}'
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == 'image':
                coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
                picture = Image.fromarray(coarse).resize((64, 48 + 4 * number), Image.Resampling.BICUBIC)
            else:
                values = rng.choice([255, 0, *labels], (48 + 4 * number, 64)).astype(np.uint8)
                picture = Image.fromarray(values)
            picture.save(path)
    if listed:
        (folder / listed).parent.mkdir(parents=True)
        (folder / listed).write_text('0\n1\n2\n')


def test_there_is_a_config_for_every_layout():
    assert set(NAMES) == {*LAYOUTS, 'imagenet', 'scenes'}


@pytest.mark.slow
@pytest.mark.parametrize('name', LAYOUTS)
def test_segmentation(name, clip, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    cfg = config_of(name, clip, tmp_path)
    (entry,) = cfg.evaluators
    dataset = entry.dataloader.dataset
    images, maps, listed, labels = LAYOUTS[name]
    write_images(tmp_path / 'data', dataset, images, maps, listed, labels)
    dataset.data_root = str(tmp_path / 'data')
    steps = {step['type']: step for step in dataset.pipeline}
    assert steps['Resize']['scale'] == (2048, 560 if name == 'cityscapes' else 336)
    steps['Resize']['scale'] = (256, 48)
    entry.update(templates='plain', of='both' if name in RUN else 'student')
    entry.dataloader.batch_size = 1
    if name in RUN:
        runner = build_runner(cfg)
        metrics = runner.test()
        figures = ('mIoU', 'mAcc', 'aAcc')
        assert set(metrics) == {f'{name}/{part}{key}' for part in ('', 'teacher_', 'gap_') for key in figures}
        assert all(0 <= metrics[f'{name}/{part}aAcc'] <= 100 for part in ('', 'teacher_'))
        evaluator = runner.test_loop.evaluators[0]
    else:
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            loader = MVPRunner.build_dataloader(entry.dataloader, seed=0)
            evaluator = EVALUATORS.build(dict(entry, dataloader=loader))
    assert evaluator.classes == class_names(CLASSES.get(name, name))
    assert (evaluator.threshold, evaluator.background) == OPTIONS.get(name, (None, None))
    data = evaluator.dataloader.dataset
    found = {int(label) for sample in data for label in evaluator._truth(sample['data_samples']).unique()}
    asked = set(range(1, 21)) if name == 'voc20' else set(range(len(labels)))
    assert found <= asked | {255} and len(data) == 3 and len(found) > 8
    assert evaluator.numbers == sorted(asked)


@pytest.mark.slow
def test_imagenet(clip, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    cfg = config_of('imagenet', clip, tmp_path)
    (evaluator,) = cfg.evaluators
    names = ['tench', 'goldfish', 'great white shark', 'tiger shark', 'hammerhead', 'electric ray']
    for number, label in enumerate(names):
        path = tmp_path / 'data/val' / f'{number}-{label}' / '0.jpg'
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((40, 50, 3), 40 * number, np.uint8)).save(path)
    evaluator.dataloader.dataset.data_root = str(tmp_path / 'data')
    with pytest.raises(ValueError, match='classes has 1000 entries and the dataset 6 classes'):
        build_runner(cfg).test()
    cfg = config_of('imagenet', clip, tmp_path)
    cfg.evaluators[0].classes = names
    cfg.evaluators[0].dataloader.dataset.data_root = str(tmp_path / 'data')
    for step in cfg.evaluators[0].dataloader.dataset.pipeline[1:3]:
        step.size = 32
    metrics = build_runner(cfg).test()
    assert set(metrics) == {
        f'zero_shot/{part}{key}' for part in ('', 'teacher_', 'gap_') for key in ('top1', 'top5')
    }


@pytest.mark.slow
def test_scenes_by_the_shipped_student(tmp_path):
    """The whole evaluation at a tenth of its scenes: shapes, colours and pixels."""
    cfg = load_config(str(ROOT / 'configs/zero_shot/scenes.py'), str(tmp_path))
    cfg.load_from = str(ROOT / 'configs/mvp/vittiny_scenes.safetensors')
    for evaluator in cfg.evaluators:
        evaluator.dataloader.update(num_workers=0, persistent_workers=False, batch_size=25)
        evaluator.dataloader.dataset.count //= 10
    metrics = build_runner(cfg).test()
    for name in ('scenes_shape', 'scenes_colour'):
        assert metrics[f'{name}/teacher_top1'] > 25  # chance: 12.5
    assert metrics['scenes/teacher_mIoU'] > 5
    assert metrics['scenes/gap_mIoU'] == metrics['scenes/teacher_mIoU'] - metrics['scenes/mIoU']


def test_evaluators_beside_a_training(clip, tmp_path, monkeypatch):
    """As entries of a user's own config."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    path = tmp_path / 'mine.py'
    path.write_text(
        "_base_ = ['mvp_mm::mvp/vittiny_scenes.py', 'mvp_mm::_base_/evaluators/scenes.py']\n"
        "custom_imports = dict(imports=['mvp_mm', 'mvp_mm.datasets.segmentation'])\n"
        'evaluators = [_base_.scenes_shape, _base_.scenes]\n'
        'train_cfg = dict(max_epochs=1, val_interval=1)\n'
        'train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False,\n'
        '    sampler=dict(total_batch=4), dataset=dict(count=8))\n'
        'val_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(count=8))\n'
        'auto_scale_lr = dict(base_batch_size=4)\n'
        "param_scheduler = [dict(type='ConstantLR', factor=1.0)]\n"
    )
    cfg = load_config(str(path), str(tmp_path / 'run'))
    for evaluator in cfg.evaluators:
        evaluator.dataloader.update(num_workers=0, persistent_workers=False, batch_size=4)
        evaluator.dataloader.dataset.count = 8
    runner = build_runner(cfg)
    runner.train()
    (log,) = Path(runner.log_dir).glob('vis_data/scalars.json')
    text = log.read_text()
    for key in ('scenes_shape/top1', 'scenes_shape/gap_top1', 'scenes/mIoU', 'target_cosine/cosine'):
        assert f'"{key}"' in text, key
