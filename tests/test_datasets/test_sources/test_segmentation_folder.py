"""Mistakes in one's own images and label maps are told before training, by the file and what to do."""

import logging
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from mvp_mm.datasets import UnreadableImageError
from mvp_mm.datasets.segmentation import CheckLabelMap, LabelMapError, SegmentationFolder

ROOT = Path(__file__).parents[3]
TEMPLATES = ('vittiny_custom.py', 'vitb16_custom_512x512.py')
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='mmseg.CheckLabelMap')]
COUNT = 12  # more than are looked at when the dataset is built


@pytest.fixture
def folder(tmp_path):
    """Images and label maps of three classes."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for kind in ('images', 'annotations'):
            (tmp_path / 'data' / kind / split).mkdir(parents=True)
        for number in range(COUNT):
            pixels = rng.integers(0, 256, (36, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f'data/images/{split}/{number:02d}.jpg')
            labels = rng.integers(0, 3, (36, 48), dtype=np.uint8)
            labels[0, 0] = 255
            Image.fromarray(labels).save(tmp_path / f'data/annotations/{split}/{number:02d}.png')
    return tmp_path / 'data'


def dataset(folder, classes=('a', 'b', 'c'), split='train', **arguments):
    prefix = dict(img_path=f'images/{split}', seg_map_path=f'annotations/{split}')
    settings = dict(metainfo=dict(classes=classes), data_prefix=prefix, pipeline=PIPELINE)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return SegmentationFolder(data_root=str(folder), **{**settings, **arguments})


def relabel(folder, number, labels, split='train'):
    Image.fromarray(labels).save(folder / f'annotations/{split}/{number:02d}.png')


def test_what_is_right_is_read(folder):
    data = dataset(folder)
    assert len(data) == COUNT and data.metainfo['classes'] == ('a', 'b', 'c')
    assert [Path(data.get_data_info(i)['img_path']).stem for i in range(2)] == ['00', '01']
    assert set(np.unique(data[3]['gt_seg_map'])) == {0, 1, 2, 255}


def test_sub_folders_a_list_and_palette_images(folder):
    for kind in ('images', 'annotations'):
        (folder / kind / 'train/city').mkdir()
    shutil.move(folder / 'images/train/00.jpg', folder / 'images/train/city/00.jpg')
    label_map = Image.fromarray(np.asarray(Image.open(folder / 'annotations/train/00.png')) % 3)
    label_map.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    label_map.save(folder / 'annotations/train/city/00.png')
    (folder / 'annotations/train/00.png').unlink()
    assert label_map.mode == 'P' and len(dataset(folder)) == COUNT
    (folder / 'names.txt').write_text('01\ncity/00\n')
    assert len(dataset(folder, ann_file='names.txt')) == 2
    with pytest.raises(FileNotFoundError, match='no list of names .*gone.txt'):
        dataset(folder, ann_file='gone.txt')


def test_a_folder_that_is_not_there(folder):
    with pytest.raises(FileNotFoundError, match=r'no folder .*/gone/images/train .*dataset.data_root=DIR'):
        dataset(folder.parent / 'gone')
    shutil.rmtree(folder / 'annotations')
    with pytest.raises(FileNotFoundError, match=r'no folder .*annotations/train .*data_prefix.seg_map_path'):
        dataset(folder)


def test_another_suffix(folder):
    message = r'no image \*.png, but 12 \*.jpg: set img_suffix .*train_dataloader.dataset.img_suffix=.jpg'
    with pytest.raises(FileNotFoundError, match=message):
        dataset(folder, img_suffix='.png')
    with pytest.raises(
        FileNotFoundError, match=r'lacks .* 12 of 12 images: 00.tif.*\*.png: is seg_map_suffix right'
    ):
        dataset(folder, seg_map_suffix='.tif')
    for path in (folder / 'images/train').iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match='images/train has no image in it'):
        dataset(folder)


def test_images_of_two_suffixes(folder):
    shutil.move(folder / 'images/train/03.jpg', folder / 'images/train/03.JPG')
    shutil.move(folder / 'annotations/train/04.png', folder / 'annotations/train/04.PNG')
    data = dataset(folder)  # capitals are the same suffix
    assert len(data) == COUNT and data.get_data_info(4)['seg_map_path'].endswith('04.PNG')
    shutil.move(folder / 'images/train/03.JPG', folder / 'images/train/03.webp')
    with pytest.raises(ValueError, match=r"1 images in .* do not end with '.jpg' .*: 03.webp"):
        dataset(folder)
    (folder / 'annotations/train/03.png').unlink()  # an image that is not labelled yet
    assert len(dataset(folder)) == COUNT - 1


def test_an_image_without_its_label_map(folder):
    (folder / 'annotations/train/05.png').unlink()
    with pytest.raises(FileNotFoundError, match='lacks the label maps of 1 of 12 images: 05.png.*same names'):
        dataset(folder)


def test_images_alone(folder):
    shutil.rmtree(folder / 'annotations')
    alone = dict(data_prefix=dict(img_path='images/train'), pipeline=[PIPELINE[0], PIPELINE[2]])
    assert dataset(folder, **alone)[0]['img'].shape == (36, 48, 3)


def test_a_label_that_is_no_class(folder):
    with pytest.raises(
        LabelMapError,
        match=r'00.png has the label 2, .* 2 classes: allowed are 0 to 1, and 255, which is ignored',
    ):
        dataset(folder, classes=('a', 'b'))
    relabel(folder, 2, np.full((36, 48), 7, np.uint8))  # not among those looked at first
    data = dataset(folder)
    with pytest.raises(LabelMapError, match=r'02.png has the label 7, .*allowed are 0 to 2'):
        data[2]


def test_label_maps_that_count_from_one(folder):
    for path in (folder / 'annotations/train').iterdir():
        Image.fromarray(np.full((36, 48), 3, np.uint8)).save(path)
    assert (dataset(folder, reduce_zero_label=True)[0]['gt_seg_map'] == 2).all()
    with pytest.raises(
        LabelMapError, match='the label 3, .* 2 classes: allowed are 1 to 2, and 0 and 255, which are ignored'
    ):
        dataset(folder, classes=('a', 'b'), reduce_zero_label=True)


def test_colours_for_numbers(folder):
    relabel(folder, 0, np.zeros((36, 48, 3), np.uint8))
    with pytest.raises(LabelMapError, match=r'00.png holds colours \(3 channels\).*Convert each colour'):
        dataset(folder)


def test_black_and_white_for_two_classes(folder):
    for number in range(COUNT):
        relabel(folder, number, np.uint8([[0, 255]]).repeat(36, 0).repeat(24, 1))
    with pytest.raises(LabelMapError, match='nothing but 0 and 255, and 255 is ignored.*Replace 255 by 1'):
        dataset(folder, classes=('background', 'object'))


@pytest.mark.parametrize(
    'values,more,says',
    [
        (
            [255],
            {},
            '12 label maps in .*/annotations/train hold nothing but 255, .* nothing to learn.*from 0',
        ),
        ([0], dict(reduce_zero_label=True), 'nothing but 0 and 255, .* If 0 is a class, .*_label=False'),
        ([0, 255], dict(reduce_zero_label=True), 'nothing but 0 and 255, .* If 0 is a class'),
        ([0, 1], dict(reduce_zero_label=True), 'nothing but 1, beside 0 and 255, which are ignored. If 0 is'),
        ([0, 1, 255], dict(reduce_zero_label=True), 'nothing but 1, beside 0 and 255'),
        ([0, 255], {}, 'nothing but 0 and 255, and 255 is ignored.*Replace 255 by 1'),
    ],
    ids=lambda value: str(value)[:20],
)
def test_maps_that_label_nothing(values, more, says, folder):
    labels = np.resize(np.uint8(values), (36, 48))
    for number in range(COUNT):
        relabel(folder, number, labels)
    with pytest.raises(LabelMapError, match=says):
        dataset(folder, **more)
    relabel(folder, 1, np.full((36, 48), 3 - (not more), np.uint8))  # not among those looked at first
    if 0 in values and not more or 1 in values:
        assert len(dataset(folder, **more)) == COUNT


@pytest.mark.parametrize('values,more', [([2, 255], {}), ([0], {}), ([3], dict(reduce_zero_label=True))])
def test_maps_of_one_class(values, more, folder, monkeypatch):
    told = []
    monkeypatch.setattr(
        'mvp_mm.datasets.sources.segmentation_folder.print_log',
        lambda text, logger, level=logging.INFO: told.append(text) if level == logging.WARNING else None,
    )
    for number in range(COUNT):
        relabel(folder, number, np.resize(np.uint8(values), (36, 48)))
    assert len(dataset(folder, **more)) == COUNT
    only = 'a' if 0 in values else 'c'
    assert len(told) == 1 and f'/annotations/train have one class alone, {only!r}' in told[0]
    relabel(folder, 1, np.full((36, 48), 1, np.uint8))
    dataset(folder, **more)
    assert len(told) == 1


def test_sixteen_bits(folder):
    relabel(folder, 0, np.full((36, 48), 300, np.uint16))
    with pytest.raises(LabelMapError, match='more than 8 bits'):
        dataset(folder)


def test_another_size_than_the_image(folder):
    relabel(folder, 1, np.zeros((18, 48), np.uint8))
    with pytest.raises(LabelMapError, match='01.png has 48x18 pixels, its image 48x36'):
        dataset(folder)[1]


@pytest.mark.parametrize('name', ['images/train/01.jpg', 'annotations/train/01.png'])
def test_an_unreadable_file(name, folder):
    (folder / name).write_bytes(b'no image')
    with pytest.raises(
        UnreadableImageError, match=f'{name} cannot be read .*: replace the file, or delete it'
    ):
        dataset(folder)[1]


def test_classes_and_colours(folder):
    with pytest.raises(ValueError, match='needs metainfo=dict'):
        dataset(folder, classes=())
    with pytest.raises(ValueError, match="one class alone, 'road': segmentation needs two or more"):
        dataset(folder, classes=('road',))
    with pytest.raises(ValueError, match='1 colours for 3 classes'):
        dataset(folder, metainfo=dict(classes=('a', 'b', 'c'), palette=[[0, 0, 0]]))


def test_a_photograph_passes():
    assert CheckLabelMap()(dict(img=1)) == dict(img=1)


def copied(name, folder, **lines):
    """A template copied beside the data, with its marked lines changed."""
    text = (ROOT / 'configs/upernet' / name).read_text()
    lines = dict(data_root=str(folder), classes=('a', 'b', 'c'), palette=[[0, 0, 0]] * 3) | lines
    for key, value in lines.items():
        (old,) = [line for line in text.splitlines() if line.startswith(f'{key} = ')]
        text = text.replace(old, f'{key} = {value!r}')
    path = folder.parent / f'mine_{name}'
    path.write_text(text)
    return path


SMALL = dict(
    model=dict(
        backbone=dict(
            arch=dict(embed_dims=24, num_layers=12, num_heads=3, feedforward_channels=48),
            out_indices=(0, 1, 2, 3),
            init_cfg=None,
        ),
        neck=dict(embed_dim=24, norm_cfg=dict(type='BN')),
        decode_head=dict(in_channels=[24] * 4, channels=16, norm_cfg=dict(type='BN')),
        auxiliary_head=dict(in_channels=24, channels=16, norm_cfg=dict(type='BN')),
    ),
)
QUICK = ['train_cfg.max_iters=1', 'train_cfg.val_interval=1', 'auto_scale_lr.base_batch_size=1']
QUICK += ['train_dataloader.batch_size=2', 'default_hooks.checkpoint.interval=1', 'test_cfg=None']
QUICK += ['test_dataloader=None', 'test_evaluator=None', 'val_dataloader.dataset.indices=1']
QUICK += ['model.decode_head.channels=16', 'model.auxiliary_head.channels=16']
QUICK += [f'{phase}_dataloader.num_workers=0' for phase in ('train', 'val')]
QUICK += [f'{phase}_dataloader.persistent_workers=False' for phase in ('train', 'val')]


def train(monkeypatch, config, *options):
    arguments = [config, '--work-dir', config.parent / 'run', '--cfg-options', *QUICK, *options]
    monkeypatch.setattr(sys, 'argv', ['train.py', *map(str, arguments)])
    runpy.run_path(str(ROOT / 'tools/train.py'), run_name='__main__')


@pytest.mark.slow
@pytest.mark.parametrize('name', TEMPLATES)
def test_a_template_copied_out_of_the_clone(name, folder, monkeypatch):
    path = copied(name, folder)
    if 'vitb16' in name:
        cfg = Config.fromfile(path)
        for key, values in SMALL['model'].items():
            cfg.model[key].update(values)
        assert cfg.model.decode_head.num_classes == 3
        cfg.dump(path)
    train(monkeypatch, path)
    saved = torch.load(path.parent / 'run/iter_1.pth', weights_only=False)
    assert saved['meta']['dataset_meta']['classes'] == ('a', 'b', 'c')
    assert saved['state_dict']['decode_head.conv_seg.weight'].shape[0] == 3


@pytest.mark.slow
def test_mistakes_end_in_one_line(folder, monkeypatch):
    config = copied(TEMPLATES[0], folder)
    heads = r'the images have 3 classes \(a, b, c\), and the head has 9: add --cfg-options model.decode_head'
    with pytest.raises(SystemExit, match=rf'^\nERROR: {heads}.num_classes=3, or, [^\n]*\n[^\n]*$'):
        train(monkeypatch, config, 'model.decode_head.num_classes=9')
    for number in range(COUNT):  # those that are not looked at first come to light in a worker
        if number not in np.linspace(0, COUNT - 1, 8).astype(int):
            relabel(folder, number, np.full((36, 48), 7, np.uint8))
    workers = ('train_dataloader.num_workers=1', 'train_cfg.max_iters=20')
    with pytest.raises(SystemExit, match=r'^\nERROR: [^\n]*.png has the label 7, [^\n]*\n\(MVP[^\n]*$'):
        train(monkeypatch, config, *workers)
    (folder / 'annotations/val/02.png').unlink()  # found before the training begins
    with pytest.raises(SystemExit, match=r'ERROR: .*annotations/val lacks the label maps of 1 of 12 images'):
        train(monkeypatch, config)
