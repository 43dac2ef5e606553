import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from torch.utils.data import DataLoader

from mvp_mm.datasets import EpochSampler, SampleIndex, UnlabelledImages

CONFIGS = Path(__file__).parents[2] / 'configs' / 'mvp'


@pytest.fixture
def dataset(image_folder):
    config = Config.fromfile(CONFIGS / 'vittiny_debug.py')
    return UnlabelledImages(str(image_folder), pipeline=config.train_pipeline)


def contents(loader):
    """Bytes of crop and mask by path; the loader goes through one epoch."""
    samples = {}
    for batch in loader:
        columns = batch['inputs'], batch['mask'], batch['data_samples']
        for image, mask, info in zip(*columns, strict=True):
            assert info.img_path not in samples
            samples[info.img_path] = image.numpy().tobytes(), mask.numpy().tobytes()
    return samples


def make_loader(dataset, num_workers=0, seed=0, batch_size=2, **options):
    sampler = EpochSampler(dataset, seed=seed)
    return DataLoader(
        dataset, batch_size, sampler=sampler, num_workers=num_workers, collate_fn=default_collate, **options
    )


def two_epochs(loader, start=0):
    samples = []
    for epoch in range(start, start + 2):
        loader.sampler.set_epoch(epoch)
        samples.append(contents(loader))
    return samples


def test_workers_do_not_matter(dataset):
    torch.manual_seed(0)
    expected = two_epochs(make_loader(dataset))
    assert [len(samples) for samples in expected] == [8, 8]
    for path in expected[0]:
        assert expected[0][path][0] != expected[1][path][0]
    assert sum(expected[0][path][1] != expected[1][path][1] for path in expected[0]) >= 7
    torch.manual_seed(1)  # what workers derive their own seeds from
    assert two_epochs(make_loader(dataset, 1)) == expected
    assert two_epochs(make_loader(dataset, 2, batch_size=3)) == expected
    assert two_epochs(make_loader(dataset, 2, persistent_workers=True)) == expected


def test_restart_gives_the_same_epochs(dataset):
    straight = make_loader(dataset)
    epochs = two_epochs(straight) + two_epochs(straight, start=2)
    assert two_epochs(make_loader(dataset), start=2) == epochs[2:]
    assert two_epochs(make_loader(dataset), start=1) == epochs[1:3]


def test_seeds_differ(dataset):
    first, other = contents(make_loader(dataset, seed=0)), contents(make_loader(dataset, seed=1))
    assert all(first[path][0] != other[path][0] for path in first)
    assert len({mask for _, mask in first.values()}) == 8


def test_same_image_content_has_its_own_draws(dataset):
    same = UnlabelledImages(dataset.data_root, pipeline=dataset.pipeline.transforms, indices=[0, 0])
    first, second = (same[SampleIndex(i, 0, 0)]['inputs'] for i in range(2))
    assert not torch.equal(first, second)


def test_every_generator_a_transform_may_use(image_folder):
    def draw(results):
        return dict(python=random.random(), numpy=np.random.rand(), torch=torch.rand(1).item())

    dataset = UnlabelledImages(str(image_folder), pipeline=[draw])
    first = dataset[SampleIndex(0, 0, 0)]
    assert dataset[SampleIndex(0, 0, 0)] == first
    for other in (SampleIndex(1, 0, 0), SampleIndex(0, 1, 0), SampleIndex(0, 0, 1)):
        assert all(dataset[other][name] != value for name, value in first.items())
    assert dataset[SampleIndex(1, 0, 0)] != dataset[SampleIndex(0, 1, 0)]


def test_plain_index_draws_freshly(dataset):
    assert not torch.equal(dataset[0]['inputs'], dataset[0]['inputs'])
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    first = dataset[0]
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    again = dataset[0]
    assert torch.equal(first['inputs'], again['inputs'])
    assert torch.equal(first['mask'], again['mask'])


def test_fixed_draws(dataset):
    dataset.fixed_draws = True
    first, second = two_epochs(make_loader(dataset))
    assert first == second
    assert torch.equal(dataset[3]['inputs'], dataset[3]['inputs'])
    other = contents(make_loader(dataset, seed=1))
    assert all(first[path][0] != other[path][0] for path in first)
