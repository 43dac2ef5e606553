import pickle
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from torch.utils.data import DataLoader

from mvp_mm.datasets import EpochSampler, SampleIndex, UnlabelledImages
from mvp_mm.datasets.samplers import epoch_sampler

CONFIGS = Path(__file__).parents[2] / 'configs' / 'mvp'


@pytest.fixture
def dataset(image_folder):
    config = Config.fromfile(CONFIGS / 'vittiny_debug.py')
    return UnlabelledImages(str(image_folder), pipeline=config.train_pipeline)


@pytest.fixture
def ranks(monkeypatch):
    """``ranks(n)``: pretend to be each of n processes in turn."""

    def each(world_size):
        for rank in range(world_size):
            monkeypatch.setattr(epoch_sampler, 'get_dist_info', lambda rank=rank: (rank, world_size))
            yield rank

    return each


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


def test_callers_random_state_is_untouched(dataset):
    def state():
        numpy_state = np.random.get_state()
        return random.getstate(), numpy_state[1].tolist(), numpy_state[2:], torch.get_rng_state().tolist()

    random.seed(11), np.random.seed(11), torch.manual_seed(11)
    before = state()
    dataset[SampleIndex(0, 0, 0)]
    assert state() == before
    random.random(), np.random.rand(), torch.rand(1)
    before = state()
    dataset[SampleIndex(1, 2, 3)]
    assert state() == before


def test_random_state_is_restored_after_an_error(dataset):
    dataset.pipeline.transforms.append(lambda results: 1 / 0)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError):
        dataset[SampleIndex(0, 0, 0)]
    assert torch.equal(torch.get_rng_state(), before)


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


def test_sample_index():
    index = SampleIndex(5, epoch=2, seed=9)
    assert index == 5
    assert [10, 11, 12, 13, 14, 15][index] == 15
    again = pickle.loads(pickle.dumps([index]))[0]
    assert type(again) is SampleIndex
    assert (int(again), again.epoch, again.seed) == (5, 2, 9)


def total_batches(ranks, size, total, world_size, batch, epoch=0):
    """Images of each optimiser step, all processes together."""
    accumulation = total // (world_size * batch)
    steps = []
    for _ in ranks(world_size):
        sampler = EpochSampler(range(size), total_batch=total, seed=4)
        sampler.set_epoch(epoch)
        indices = [int(index) for index in sampler]
        assert len(indices) == len(sampler)
        per_step = batch * accumulation
        for step, start in enumerate(range(0, len(indices), per_step)):
            if step == len(steps):
                steps.append(Counter())
            steps[step].update(indices[start : start + per_step])
    return steps


def test_total_batches_do_not_depend_on_processes(ranks):
    expected = total_batches(ranks, 100, 16, world_size=1, batch=16)
    assert [sum(step.values()) for step in expected] == [16] * 6
    assert max(sum(expected, Counter()).values()) == 1  # no image twice
    for world_size, batch in [(1, 4), (1, 1), (2, 8), (2, 4), (2, 1), (4, 4), (4, 2), (4, 1)]:
        assert total_batches(ranks, 100, 16, world_size, batch) == expected
    following = total_batches(ranks, 100, 16, world_size=4, batch=2, epoch=1)
    assert following != expected
    assert following == total_batches(ranks, 100, 16, world_size=1, batch=16, epoch=1)


@pytest.mark.parametrize(
    ('world_size', 'batch', 'iterations'), [(8, 256, 625), (1, 256, 5000), (16, 64, 1250)]
)
def test_imagenet_epoch(ranks, world_size, batch, iterations):
    for _ in ranks(world_size):
        sampler = EpochSampler(range(1_281_167), total_batch=2048, seed=0)
        assert len(sampler) / batch == iterations


def test_small_dataset_is_not_cut(ranks):
    for _ in ranks(1):
        assert sorted(EpochSampler(range(10), total_batch=16, seed=0)) == list(range(10))
    dealt = []
    for _ in ranks(3):
        sampler = EpochSampler(range(10), total_batch=16, seed=0)
        assert len(sampler) == 3  # the same for all, or processes would wait for each other
        dealt += list(sampler)
    assert len(set(dealt)) == 9


def test_too_few_images(ranks):
    for _ in ranks(4):
        with pytest.raises(ValueError, match='3 images cannot be dealt out to 4 processes'):
            EpochSampler(range(3), seed=0)


def test_order(ranks):
    for _ in ranks(1):
        sampler = EpochSampler(range(50), seed=0)
        first = list(sampler)
        assert list(sampler) == first != list(range(50))
        assert {(index.epoch, index.seed) for index in first} == {(0, 0)}
        sampler.set_epoch(1)
        assert {index.epoch for index in sampler} == {1}
        assert list(sampler) != first
        assert list(EpochSampler(range(50), seed=1)) != first
        assert list(EpochSampler(range(50), shuffle=False, seed=1)) == list(range(50))
    for rank in ranks(2):
        assert list(EpochSampler(range(50), shuffle=False, seed=1)) == list(range(rank, 50, 2))


def test_every_order_is_about_uniform(ranks):
    for _ in ranks(1):
        sampler = EpochSampler(range(6), seed=0)
        firsts = Counter()
        for epoch in range(3000):
            sampler.set_epoch(epoch)
            firsts[int(next(iter(sampler)))] += 1
        assert all(abs(count - 500) < 80 for count in firsts.values())
