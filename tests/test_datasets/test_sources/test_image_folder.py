import logging
import os
import random

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmpretrain.registry import DATASETS
from PIL import Image

from mvp_mm.datasets import SampleIndex, UnlabelledImages, UnreadableImageError
from mvp_mm.datasets.sources import image_folder

CROP = [
    dict(type='LoadRGBImage'),
    dict(type='torchvision/RandomResizedCrop', size=32, interpolation='bicubic'),
    dict(type='BlockwiseMask', input_size=4, num_masking_patches=6, min_num_patches=1),
    dict(type='PackMaskedInputs'),
]


@pytest.fixture
def log_lines():
    """What the current logger is told from here on."""
    lines = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def put(folder, *names, size=(40, 30)):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', size, (10, 20, 30)).save(path, format='PNG')
    return folder


def found(folder, **options):
    """Paths relative to the folder, in the dataset's order."""
    dataset = UnlabelledImages(str(folder), **options)
    return [os.path.relpath(dataset.get_data_info(i)['img_path'], folder) for i in range(len(dataset))]


def test_flat_folder(tmp_path):
    put(tmp_path, 'c.jpg', 'a.jpg', 'b.jpg')
    assert found(tmp_path) == ['a.jpg', 'b.jpg', 'c.jpg']


def test_nested_folders(tmp_path):
    put(tmp_path, 'b/2.jpg', 'a/x/y/z/1.jpg', '0.jpg', 'b/1.jpg', 'with space/ä.jpg')
    assert found(tmp_path) == ['0.jpg', 'a/x/y/z/1.jpg', 'b/1.jpg', 'b/2.jpg', 'with space/ä.jpg']


def test_train_folder_is_preferred(tmp_path, log_lines):
    put(tmp_path, 'train/n01/1.JPEG', 'train/n02/1.JPEG', 'val/n01/1.JPEG', 'logo.png')
    assert found(tmp_path) == ['train/n01/1.JPEG', 'train/n02/1.JPEG']
    assert log_lines == [f'UnlabelledImages: 2 images of {tmp_path}/train (all below it)']
    assert found(tmp_path, split='val') == ['val/n01/1.JPEG']
    assert len(found(tmp_path, split='')) == 4
    assert len(found(tmp_path, split='test')) == 4


def test_extensions(tmp_path):
    names = ['a.JPEG', 'b.Jpg', 'c.PNG', 'd.webp', 'e.TIF', 'f.tiff', 'g.bmp', 'h.ppm', 'i.gif', 'j.jpg.PNG']
    put(tmp_path, *names)
    for name in ('labels.txt', 'k.jpg.part', 'jpg', 'l.xml', 'm.npy'):
        (tmp_path / name).write_text('no image')
    assert found(tmp_path) == sorted(names)
    assert found(tmp_path, extensions=['.png']) == ['c.PNG', 'j.jpg.PNG']


def test_hidden_files_are_skipped(tmp_path):
    put(tmp_path, 'a.jpg', '._a.jpg', '.hidden.png', 'b/._b.jpg', 'b/b.jpg')
    assert found(tmp_path) == ['a.jpg', 'b/b.jpg']


def test_links(tmp_path, log_lines):
    put(tmp_path / 'elsewhere', '1.jpg', 'deep/2.jpg')
    root = put(tmp_path / 'root', 'own.jpg', 'x/own.jpg')
    (root / 'linked').symlink_to(tmp_path / 'elsewhere')
    (root / 'link.jpg').symlink_to(tmp_path / 'elsewhere' / '1.jpg')
    (root / 'x' / 'up').symlink_to(root)
    (root / 'self').symlink_to('self')
    assert found(root) == ['link.jpg', 'linked/1.jpg', 'linked/deep/2.jpg', 'own.jpg', 'x/own.jpg']
    assert len(log_lines) == 1


def test_folder_reached_twice_counts_once_under_its_own_name(tmp_path):
    names = [f'{letter}/1.jpg' for letter in 'mgzcx']
    put(tmp_path, *names)
    for letter in 'mgzcx':  # links before and after what they point to
        (tmp_path / f'a{letter}').symlink_to(letter)
    assert found(tmp_path) == [f'{letter}/1.jpg' for letter in 'cgmxz']


@pytest.mark.parametrize('label', ['', ' 7', '\t3 4'])
def test_annotation_file(tmp_path, label, log_lines):
    root = put(tmp_path / 'root', 'train/b/2.jpg', 'train/a/1.jpg', 'train/a/unlisted.jpg')
    listing = tmp_path / 'list.txt'
    listing.write_text(f'b/2.jpg{label}\n\na/1.jpg{label}\n')
    assert found(root, ann_file=str(listing)) == ['train/b/2.jpg', 'train/a/1.jpg']
    assert log_lines == [f'UnlabelledImages: 2 images of {root}/train ({listing})']


def test_clear_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no image folder .*/nowhere.*data_root=DIR.*flat or nested'):
        UnlabelledImages(str(tmp_path / 'nowhere'))
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / 'notes.txt').touch()
    with pytest.raises(
        FileNotFoundError, match=r'no image found below .*/train \(looked for .jpg, .*any depth'
    ):
        UnlabelledImages(str(tmp_path))
    with pytest.raises(FileNotFoundError, match='list.txt'):
        UnlabelledImages(str(tmp_path), ann_file=str(tmp_path / 'list.txt'))
    (tmp_path / 'list.txt').write_text('\n')
    with pytest.raises(FileNotFoundError, match='no image found'):
        UnlabelledImages(str(tmp_path), ann_file=str(tmp_path / 'list.txt'))


def test_indices(tmp_path):
    put(tmp_path, *(f'{i}.jpg' for i in range(6)))
    assert found(tmp_path, indices=2) == ['0.jpg', '1.jpg']
    assert found(tmp_path, indices=[5, 0, 3]) == ['5.jpg', '0.jpg', '3.jpg']


def test_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    put(tmp_path / 'photos', 'a.jpg')
    assert len(UnlabelledImages('~/photos')) == 1


def test_registered_and_packed(image_folder):
    config = dict(type='UnlabelledImages', data_root=str(image_folder), pipeline=CROP)
    dataset = DATASETS.build(config)
    assert len(dataset) == 8
    sample = dataset[SampleIndex(6, epoch=0, seed=0)]
    assert sample['inputs'].dtype == torch.uint8
    assert sample['inputs'].shape == (3, 32, 32)
    assert sample['mask'].dtype == torch.bool
    assert sample['mask'].sum() == 6
    assert sample['data_samples'].img_path == str(image_folder / 'b' / '0001.jpg')
    assert sample['data_samples'].sample_idx == 6
    assert 'unreadable' not in sample['data_samples']


def test_replacement_of_unreadable_images(image_folder):
    bad = image_folder / 'a' / '0002.jpg'
    bad.write_bytes(bad.read_bytes()[:300])
    dataset = UnlabelledImages(str(image_folder), pipeline=CROP)

    def replacement(index):
        sample = dataset[index]
        unreadable = sample['data_samples'].unreadable
        # more than once where the first replacement drawn was the same file again
        assert set(unreadable) == {(str(bad), 'OSError: Truncated File Read')}
        assert sample['mask'].sum() == 6
        return sample['data_samples'].img_path, sample['inputs'].numpy().tobytes()

    index = SampleIndex(2, epoch=3, seed=1)
    first = replacement(index)
    assert first[0] != str(bad)
    random.seed(5)
    torch.manual_seed(5)
    np.random.seed(5)
    assert replacement(index) == first
    others = {replacement(SampleIndex(2, epoch, seed=1))[0] for epoch in range(20)}
    assert len(others) >= 5  # of the 7 good ones
    replacement(2)  # a plain index too
    assert 'unreadable' not in dataset[SampleIndex(3, epoch=3, seed=1)]['data_samples']


def test_crop_of_good_images_does_not_depend_on_bad_ones(image_folder):
    dataset = UnlabelledImages(str(image_folder), pipeline=CROP)
    before = dataset[SampleIndex(3, 0, 0)]['inputs']
    (image_folder / 'a' / '0002.jpg').write_bytes(b'')
    assert (dataset[SampleIndex(3, 0, 0)]['inputs'] == before).all()


def test_nothing_readable(image_folder):
    paths = sorted(image_folder.rglob('*.jpg'))
    for path in paths:
        path.write_bytes(b'')
    dataset = UnlabelledImages(str(image_folder), pipeline=CROP, max_refetch=3)
    with pytest.raises(UnreadableImageError, match='4 images in a row .* storage mounted') as caught:
        dataset[SampleIndex(0, 0, 0)]
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 4
    assert lines[0] == f'  {paths[0]}: UnidentifiedImageError: cannot identify image file {str(paths[0])!r}'


def test_other_errors_are_not_hidden(image_folder):
    dataset = UnlabelledImages(str(image_folder), pipeline=[dict(type='LoadRGBImage'), lambda results: 1 / 0])
    with pytest.raises(ZeroDivisionError):
        dataset[0]


def test_small_image_is_upsampled(tmp_path):
    image = Image.new('RGB', (10, 6), (200, 0, 0))
    image.paste((0, 0, 200), (5, 0, 10, 6))
    image.save(tmp_path / 'a.png')
    pipeline = [
        dict(type='LoadRGBImage'),
        dict(type='torchvision/RandomResizedCrop', size=64, scale=(1.0, 1.0), ratio=(10 / 6, 10 / 6)),
        dict(type='BlockwiseMask', input_size=4, num_masking_patches=6, min_num_patches=1),
        dict(type='PackMaskedInputs'),
    ]
    inputs = UnlabelledImages(str(tmp_path), pipeline=pipeline)[0]['inputs']
    assert inputs.shape == (3, 64, 64)
    assert (inputs[:, :, :24] == torch.tensor([200, 0, 0])[:, None, None]).all()
    assert (inputs[:, :, 40:] == torch.tensor([0, 0, 200])[:, None, None]).all()


def test_a_class_named_like_a_split(tmp_path, monkeypatch):
    """It hides the others, which is said."""
    for name in ('bus', 'train', 'empty', 'val'):
        (tmp_path / name).mkdir()
        if name != 'empty':
            Image.new('RGB', (8, 8)).save(tmp_path / name / '0.jpg')
    said = []
    monkeypatch.setattr(image_folder, 'print_log', lambda message, *args: said.append(message))
    assert len(UnlabelledImages(str(tmp_path))) == 1
    assert said[0].endswith("none of what lies beside it: bus. Where 'train' is a class, rename it")
