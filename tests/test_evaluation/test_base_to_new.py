import pytest
import torch
from mmengine.evaluator import Evaluator

from mvp_mm.evaluation import BaseToNew


def sample(scores, label):
    return dict(pred_score=torch.tensor(scores), gt_label=torch.tensor([label]))


def test_each_half_among_itself():
    """Five classes: 0, 1, 2 are base."""
    metric = BaseToNew()
    metric.process(
        None,
        [
            sample([0.1, 0.2, 0.0, 0.9, 0.0], 1),  # right among the base classes, wrong among all
            sample([0.5, 0.2, 0.0, 0.0, 0.0], 0),  # right
            sample([0.5, 0.2, 0.6, 0.0, 0.0], 0),  # wrong
            sample([0.9, 0.0, 0.0, 0.1, 0.2], 4),  # right among the new classes, wrong among all
            sample([0.0, 0.0, 0.0, 0.1, 0.2], 3),  # wrong
        ],
    )
    found = metric.compute_metrics(metric.results)
    base, new = 200 / 3, 50.0
    assert found == pytest.approx(dict(base=base, new=new, H=2 / (1 / base + 1 / new), all=20.0))


def test_in_mmengine():
    evaluator = Evaluator(BaseToNew())
    evaluator.process([sample([0.6, 0.4], 0), sample([0.6, 0.4], 1)])
    assert evaluator.evaluate(2) == {
        f'base_to_new/{name}': value for name, value in dict(base=100.0, new=100.0, H=100.0, all=50.0).items()
    }


def test_a_half_without_images():
    metric = BaseToNew()
    metric.process(None, [sample([0.6, 0.4], 0)])
    with pytest.raises(ValueError, match='there is no image of a new class'):
        metric.compute_metrics(metric.results)
