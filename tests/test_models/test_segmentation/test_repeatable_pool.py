import pytest
import torch
from torch import nn

from mvp_mm.models.segmentation.repeatable_pool import RepeatableAvgPool2d, repeat_pooling


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize('size', [1, 2, 3, 6, (2, 5), (None, 3)])
@pytest.mark.parametrize('shape', [(32, 32), (17, 23), (5, 40), (4, 4)])
def test_values_and_gradients_are_those_of_torch(size, shape, deterministic, monkeypatch):
    torch.manual_seed(0)
    images = torch.randn(2, 3, *shape, requires_grad=True)
    expected = nn.AdaptiveAvgPool2d(size)(images)
    weights = torch.randn_like(expected)
    (gradient,) = torch.autograd.grad(expected, images, weights)
    monkeypatch.setattr(nn.functional, 'adaptive_avg_pool2d', None)  # not called any more
    pooled = RepeatableAvgPool2d(size)(images)
    torch.testing.assert_close(pooled, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.autograd.grad(pooled, images, weights)[0], gradient, atol=1e-6, rtol=0)


def test_bf16_is_summed_in_float32(deterministic):
    images = torch.randn(1, 2, 33, 33, dtype=torch.bfloat16)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        pooled = RepeatableAvgPool2d(3)(images)
    assert pooled.dtype is torch.bfloat16
    exact = nn.AdaptiveAvgPool2d(3)(images.double())
    torch.testing.assert_close(pooled, exact.bfloat16(), atol=1e-3, rtol=8e-3)


def test_torchs_own_otherwise():
    images = torch.randn(1, 2, 9, 9)
    assert torch.equal(RepeatableAvgPool2d(2)(images), nn.AdaptiveAvgPool2d(2)(images))


def test_names_stay():
    model = nn.Sequential(
        nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Conv2d(1, 1, 1)), nn.AdaptiveAvgPool2d((1, 3))
    )
    names = list(model.state_dict())
    repeat_pooling(model)
    assert list(model.state_dict()) == names
    assert isinstance(model[0][0], RepeatableAvgPool2d) and model[1].output_size == (1, 3)
