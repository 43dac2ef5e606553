import pytest
import torch
from torch.utils.data import DataLoader
from torchrun_jobs import forked

from mvp_mm.engine.loops.evaluation_loop import between_batches
from mvp_mm.evaluation.metric_evaluator import MetricEvaluator

METRIC = dict(type='mmpretrain.AttributeAccuracy', attributes=['colour'])
RIGHT = [True, False, False]


class Colours(list):
    """Samples by number, as the loader reads them."""

    metainfo = dict(classes=('red', 'blue'))


class Guesses:
    """A model whose answers are known: class 0 is right."""

    def val_step(self, batch):
        return [
            dict(colour_scores=torch.tensor([float(RIGHT[int(n)]), 0.5]), colour=torch.tensor(0))
            for n in batch
        ]


def evaluated(sampler):
    """The numbers, and how often a look between batches was allowed."""
    looks = []
    evaluator = MetricEvaluator(DataLoader(Colours(range(3)), sampler=sampler), METRIC)
    assert evaluator.metrics.dataset_meta == Colours.metainfo
    with between_batches(lambda: looks.append(1)):
        return evaluator.evaluate(Guesses()), len(looks)


def test_a_metrics_numbers_under_its_own_prefix():
    metrics, looks = evaluated([0, 1, 2])
    assert metrics == {'zero_shot/colour': pytest.approx(100 / 3)} and looks == 3


def of_a_process():
    torch.distributed.init_process_group('gloo')
    return evaluated([[0, 2], [1, 0]][torch.distributed.get_rank()])  # as MMEngine's sampler pads


def test_two_processes_count_each_image_once():
    expected = {'zero_shot/colour': pytest.approx(100 / 3)}, 2
    assert forked(of_a_process) == [expected] * 2
