import torch

from mvp_mm.models.baselines.token_map import TokenMap


def test_patches_lie_row_by_row():
    tokens = torch.arange(2 * 7 * 3).view(2, 7, 3)
    arranged = TokenMap(2, 3)(tokens)
    assert arranged.shape == (2, 3, 2, 3)
    assert torch.equal(arranged[1, :, 1, 0], tokens[1, 1 + 3])
    assert TokenMap(2)(tokens[:, :5]).shape == (2, 3, 2, 2)
