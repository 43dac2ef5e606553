import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from torch import nn
from torch.utils.data import DataLoader
from torchrun_jobs import forked

from mvp_mm.evaluation import evaluator
from mvp_mm.evaluation.evaluator import Evaluator, undisturbed


class Indices:
    """Samples that tell their index, and where their draws would come from."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return dict(inputs=torch.tensor([int(index), index.epoch, index.seed]))


class Passes(nn.Module):
    def data_preprocessor(self, batch, training):
        assert training is False
        return dict(batch, mask=None)


def read(size, batch, **options):
    loader = DataLoader(Indices(size), batch, **options)
    return [found['inputs'].tolist() for found in Evaluator.batches(Passes(), loader)]


def test_each_image_once_in_order():
    """Whatever the loader would do: shuffle, or leave out the last batch."""
    expected = [[[0, 0, 0], [1, 0, 0]], [[2, 0, 0], [3, 0, 0]], [[4, 0, 0]]]
    assert read(5, 2) == read(5, 2, shuffle=True, drop_last=True) == expected
    loader = DataLoader(Indices(5), 2, drop_last=True)
    next(Evaluator.batches(Passes(), loader))  # not read to the end
    assert [int(batch['inputs'][0, 0]) for batch in Evaluator.batches(Passes(), loader)] == [0, 2, 4]
    assert loader.batch_sampler.drop_last and loader.batch_sampler.sampler is loader.sampler


def test_workers_live_on():
    loader = DataLoader(Indices(5), 2, num_workers=1, persistent_workers=True)
    first = [batch['inputs'].tolist() for batch in Evaluator.batches(Passes(), loader)]
    workers = loader._iterator._workers
    assert [batch['inputs'].tolist() for batch in Evaluator.batches(Passes(), loader)] == first
    assert loader._iterator._workers is workers


def shares(size):
    torch.distributed.init_process_group('gloo')
    parts = [dict(sum=torch.tensor(sum(row[0] for row in batch))) for batch in read(size, 2)]
    return read(size, 2), Evaluator.total(parts)['sum'].item()


@pytest.mark.parametrize('size', [5, 2])
def test_two_processes_share_the_batches_of_one(size):
    (first, total), (second, same) = forked(shares, size)
    assert len(first) > len(second)
    together = [batch for pair in zip(first, [*second, None], strict=False) for batch in pair if batch]
    assert together == read(size, 2)
    assert total == same == sum(range(size))


@pytest.mark.parametrize(('rank', 'lengths'), [(0, [2, 1]), (1, [2, 0])])
def test_processes_of_a_sharded_model_have_equally_many_batches(rank, lengths, monkeypatch):
    monkeypatch.setattr(evaluator, 'get_dist_info', lambda: (rank, 2))
    monkeypatch.setattr(evaluator, 'is_model_wrapper', lambda model: True)
    model = SimpleNamespace(module=Passes())
    found = list(Evaluator.batches(model, DataLoader(Indices(5), 2)))
    assert [len(batch['inputs']) for batch in found] == lengths
    assert found[-1]['mask'] is None and found[-1]['inputs'].shape[1:] == (3,)


def test_labels():
    samples = [DataSample().set_gt_label(label) for label in (3, 1)]
    assert Evaluator.labels(dict(data_samples=samples)).tolist() == [3, 1]
    fields = dict(gt_label=torch.tensor([[2], [0]]), data_samples=[DataSample()] * 2)
    assert Evaluator.labels(fields).tolist() == [2, 0]
    for without in (dict(data_samples=[DataSample()]), dict(data_samples=None)):
        with pytest.raises(ValueError, match='the images have no labels: expected `gt_label`'):
            Evaluator.labels(without)


def test_undisturbed():
    """Modes that differ from module to module and all random states come back, after an error too."""
    model = nn.Module()
    model.frozen, model.learns = nn.Dropout(), nn.Dropout()
    model.train(), model.frozen.eval()
    draw = lambda: (torch.rand(1).item(), np.random.rand(), random.random())  # noqa: E731
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    expected = draw()
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    with pytest.raises(KeyError), undisturbed(model):
        assert not model.learns.training and not torch.is_grad_enabled()
        draw()
        raise KeyError
    assert model.training and model.learns.training and not model.frozen.training
    assert torch.is_grad_enabled() and draw() == expected
