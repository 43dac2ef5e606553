"""Labels by folder, and augmentation that depends on seed, epoch and index alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from PIL import Image
from torch.utils.data import DataLoader

from mvp_mm.datasets import EpochSampler, LabelledImages

CONFIG = Path(__file__).parents[2] / 'configs/finetune/vitb16_in1k.py'


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


def test_the_number_of_classes_is_checked(dataset):
    with pytest.raises(AssertionError, match='number of subfolders'):
        LabelledImages(data_root=dataset.data_root, split='train')  # ImageNet's 1000
