"""Labels by folder, and augmentation that depends on seed, epoch and index alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from PIL import Image
from torch.utils.data import DataLoader

from mvp_mm.datasets import EpochSampler, LabelledImages, UnreadableImageError

CONFIG = Path(__file__).parents[3] / 'configs/finetune/vitb16_in1k.py'


@pytest.fixture
def dataset(tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (('cat', 5), ('dog', 3)):
        (tmp_path / 'train' / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / 'train' / name / f'{number}.png')
    pipeline = Config.fromfile(CONFIG).train_pipeline
    pipeline[1].scale = 32
    return LabelledImages(data_root=str(tmp_path), split='train', classes=['cat', 'dog'], pipeline=pipeline)


def epoch_of(dataset, epoch, workers, batch_size):
    """Pixels and label by path."""
    sampler = EpochSampler(dataset, seed=1)
    sampler.set_epoch(epoch)
    loader = DataLoader(dataset, batch_size, sampler=sampler, num_workers=workers, collate_fn=pseudo_collate)
    samples = {}
    for batch in loader:
        for image, sample in zip(batch['inputs'], batch['data_samples'], strict=True):
            samples[sample.img_path] = image, int(sample.gt_label)
    return samples


def test_draws_depend_on_seed_epoch_and_index_alone(dataset):
    np.random.seed(0)
    first = epoch_of(dataset, 0, workers=0, batch_size=4)
    np.random.seed(5)
    again = epoch_of(dataset, 0, workers=2, batch_size=3)
    later = epoch_of(dataset, 1, workers=0, batch_size=4)
    assert len(first) == 8 and first.keys() == again.keys() == later.keys()
    assert all(torch.equal(first[path][0], again[path][0]) for path in first)
    assert not any(torch.equal(first[path][0], later[path][0]) for path in first)
    assert all(label == int('dog' in path) for path, (_, label) in first.items())


def test_an_integer_index_draws_from_the_process(dataset):
    assert not torch.equal(dataset[0]['inputs'], dataset[0]['inputs'])


def folders(root, split, names):
    """One image a class."""
    for name in names:
        (root / split / name).mkdir(parents=True)
        Image.new('RGB', (4, 4)).save(root / split / name / '0.png')


def test_the_number_of_given_classes_is_checked(dataset):
    with pytest.raises(ValueError, match=r'1 classes are given, and .*train has 2 class folders'):
        LabelledImages(data_root=dataset.data_root, split='train', classes=['cat'])


def test_images_without_labels(tmp_path):
    folders(tmp_path, 'test', ['b', 'a'])
    dataset = LabelledImages(
        data_root=str(tmp_path), split='test'
    )  # mmpretrain's ImageNet has no labels here
    names = [Path(info['img_path']).parent.name for info in map(dataset.get_data_info, range(2))]
    assert names == ['a', 'b'] and 'gt_label' not in dataset.get_data_info(0)


def test_classes_are_the_folders_of_train(tmp_path):
    folders(tmp_path, 'train', ['b', 'c', 'a', '.hidden'])
    folders(tmp_path, 'val', ['c', 'b', 'a'])
    for split in ('train', 'val'):
        dataset = LabelledImages(data_root=str(tmp_path), split=split)
        assert dataset.metainfo['classes'] == ('a', 'b', 'c')
        labels = {Path(info['img_path']).parent.name: info['gt_label'] for info in dataset}
        assert labels == dict(a=0, b=1, c=2)


def test_a_class_that_train_lacks_and_one_that_val_lacks(tmp_path):
    folders(tmp_path, 'train', ['a', 'b'])
    folders(tmp_path, 'val', ['a', 'z'])
    with pytest.raises(ValueError, match=r'val has z, which .*train lacks and lacks b, which .*train has'):
        LabelledImages(data_root=str(tmp_path), split='val')
    (tmp_path / 'val/z').rename(tmp_path / 'z')
    (tmp_path / 'val/b').mkdir()  # without an image
    dataset = LabelledImages(data_root=str(tmp_path), split='val')
    assert dataset.metainfo['classes'] == ('a', 'b') and len(dataset) == 1


def test_validation_images_alone(tmp_path):
    folders(tmp_path, 'val', ['a', 'b'])
    assert LabelledImages(data_root=str(tmp_path), split='val').metainfo['classes'] == ('a', 'b')


def test_one_class(tmp_path):
    folders(tmp_path, 'train', ['images'])
    with pytest.raises(
        ValueError, match=r"train has one class alone, 'images': expected a folder for each of"
    ):
        LabelledImages(data_root=str(tmp_path), split='train')
    (tmp_path / 'list.txt').write_text('images/0.png 0')
    with pytest.raises(ValueError, match=r"list.txt has one class alone, 'a'"):
        LabelledImages(str(tmp_path), data_prefix='train', ann_file='list.txt', classes=['a'])


def test_links_that_lead_nowhere(tmp_path):
    folders(tmp_path, 'train', ['a', 'b'])
    (tmp_path / 'train/b/1.png').symlink_to('gone.png')
    with pytest.raises(
        FileNotFoundError, match=r'has 1 link to images that are gone, such as b/1.png: bring'
    ):
        LabelledImages(data_root=str(tmp_path), split='train')


def test_imagenets_names(tmp_path):
    """A thousand WordNet folders are ImageNet-1K; with one less they are 999 classes of their own."""
    names = [f'n{number:08d}' for number in range(1000)]
    folders(tmp_path, 'train', names)
    classes = LabelledImages(data_root=str(tmp_path), split='train').metainfo['classes']
    assert len(classes) == 1000 and classes[0].startswith('tench')
    (tmp_path / 'train' / names[3]).rename(tmp_path / 'gone')
    classes = LabelledImages(data_root=str(tmp_path), split='train').metainfo['classes']
    assert len(classes) == 999 and classes[0] == names[0]


def test_folders_without_what_is_needed(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no image folder .*val_dataloader.dataset.data_root=DIR'):
        LabelledImages(data_root=str(tmp_path), split='val')
    (tmp_path / 'val').mkdir()
    with pytest.raises(FileNotFoundError, match='no sub-folder'):
        LabelledImages(data_root=str(tmp_path), split='val')
    (tmp_path / 'val/a').mkdir()
    with pytest.raises(FileNotFoundError, match='no image found'):
        LabelledImages(data_root=str(tmp_path), split='val')


@pytest.mark.parametrize('content', [b'', b'no image', b'\xff\xd8\xff\xe0broken'])
def test_an_unreadable_file_is_named(content, dataset, tmp_path):
    broken = tmp_path / 'train/dog/1.png'
    broken.write_bytes(content)
    with pytest.raises(
        UnreadableImageError, match=r'dog/1.png cannot be read .*: replace the file, or delete it'
    ):
        dataset[6]
    assert dataset[5] and dataset[7]


def test_other_errors_stay_what_they_are(dataset):
    dataset.pipeline.transforms.append(lambda results: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        dataset[0]


def test_labels_of_a_file(tmp_path):
    folders(tmp_path, 'train', ['a', 'b'])
    (tmp_path / 'labels.txt').write_text('a/0.png 4\n')
    dataset = LabelledImages(data_root=str(tmp_path), split='train', ann_file='labels.txt')
    assert dataset[0]['gt_label'] == 4 and len(dataset.metainfo['classes']) == 1000
