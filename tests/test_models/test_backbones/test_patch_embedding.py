import pytest
import torch
from torch import nn

from mvp_mm.models.backbones.patch_embedding import embed_patches, multiply_patches


@pytest.mark.parametrize('size', [(32, 48), (35, 41)])
@pytest.mark.parametrize('bias', [True, False])
def test_the_product_is_the_convolution(size, bias):
    projection = nn.Conv2d(3, 10, kernel_size=(8, 16), stride=(8, 16), bias=bias).double()
    images = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    results = []
    for way in (embed_patches, multiply_patches):
        tokens = way(images, projection)
        assert tokens.shape == (2, size[0] // 8, size[1] // 16, 10)
        weighted = (tokens * torch.linspace(-1, 1, 10, dtype=torch.float64)).sum()
        results.append([tokens, *torch.autograd.grad(weighted, [images, *projection.parameters()])])
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_autocast_decides_the_type():
    projection = nn.Conv2d(3, 10, 8, 8)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert multiply_patches(torch.randn(1, 3, 16, 16), projection).dtype == torch.bfloat16
    assert multiply_patches(torch.randn(1, 3, 16, 16), projection).dtype == torch.float32
