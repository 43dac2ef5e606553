import pytest
import torch

from mvp_mm.models.mvp.hadamard import hadamard


@pytest.mark.parametrize('order', [1, 2, 4, 12, 20, 24, 44, 96, 128, 384, 768, 1152])
def test_is_orthogonal_with_equal_entries(order):
    matrix = hadamard(order)
    assert torch.allclose(matrix @ matrix.T, torch.eye(order, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(matrix.abs(), torch.full_like(matrix, order**-0.5), atol=1e-14)


def test_paleys_of_order_4():
    """1 is the square modulo 3."""
    rows = [[1, 1, 1, 1], [-1, 1, -1, 1], [-1, 1, 1, -1], [-1, -1, 1, 1]]
    assert torch.equal(hadamard(4) * 2, torch.tensor(rows, dtype=torch.float64))


@pytest.mark.parametrize('order', [3, 6, 92, 100])
def test_others_are_refused(order):
    with pytest.raises(ValueError, match=f'order {order}'):
        hadamard(order)
