import pytest
import torch

from mvp_mm.models.backbones.sincos_positions import sincos_positions


def test_columns_before_rows():
    """As MAE: of the patch in row 1, column 2."""
    positions = sincos_positions((2, 3), 8, num_extra_tokens=1)
    assert positions.shape == (1, 7, 8) and positions[0, 0].abs().max() == 0
    rates = torch.tensor([1.0, 0.01])
    expected = torch.cat([f(place * rates) for place in (2.0, 1.0) for f in (torch.sin, torch.cos)])
    assert torch.allclose(positions[0, -1], expected, atol=1e-6)


def test_width():
    with pytest.raises(ValueError, match='a width that 4 divides, got 6'):
        sincos_positions((2, 2), 6)
