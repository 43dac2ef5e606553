import numpy as np
import pytest
import torch
from mmpretrain.models.backbones.beit import RelativePositionBias

from mvp_mm.models.backbones.relative_position import SharedRelativePositionBias, relative_position_bias
from mvp_mm.weights.bias_tables import num_table_rows, relative_position_index, resize_table


@pytest.mark.parametrize('window', [(14, 14), (3, 5), (1, 4)])
def test_index_equals_mmpretrains(window):
    peer = RelativePositionBias(window, 2)
    assert torch.equal(relative_position_index(window), peer.relative_position_index)


def test_bias_equals_mmpretrains():
    peer, ours = RelativePositionBias((3, 5), 4), SharedRelativePositionBias((3, 5), 4)
    peer.relative_position_bias_table.data.normal_()
    ours.load_state_dict(peer.state_dict())
    assert torch.equal(ours((3, 5)), peer())


def test_224_to_512_equals_beits(reference):
    """``reference`` was made by BEiT's rule with SciPy 1.10's interp2d."""
    numbers = np.load(reference / 'rel_pos_14_to_32.npz')
    resized = resize_table(torch.tensor(numbers['table']), (14, 14), (32, 32))
    assert np.abs(resized.numpy() - numbers['resized']).max() < 1e-4


def test_own_size_is_unchanged():
    table = torch.randn(num_table_rows((6, 4)), 3)
    assert torch.equal(resize_table(table, (6, 4), (6, 4)), table)


@pytest.mark.parametrize('source,target', [((4, 7), (9, 7)), ((4, 7), (4, 3)), ((7, 4), (11, 16))])
def test_axes_are_not_confused(source, target):
    """A table that varies along one axis only stays so, and transposing commutes with resizing."""
    body = torch.randn(2 * source[0] - 1, 2 * source[1] - 1, 2)
    extra = torch.randn(3, 2)
    rows, cols = (2 * side - 1 for side in target)

    def resized(body, source, target):
        return resize_table(torch.cat([body.flatten(0, 1), extra]), source, target)

    straight = resized(body, source, target)[:-3].view(rows, cols, 2)
    turned = resized(body.transpose(0, 1), source[::-1], target[::-1])[:-3].view(cols, rows, 2)
    assert torch.allclose(straight, turned.transpose(0, 1), atol=1e-5)
    only_rows = body[:, :1].expand_as(body)
    out = resized(only_rows, source, target)[:-3].view(rows, cols, 2)
    assert torch.allclose(out, out[:, :1].expand_as(out), atol=1e-5)


def test_gradient_reaches_the_table():
    bias = SharedRelativePositionBias((4, 4), 2)
    bias((6, 5)).sum().backward()
    assert bias.relative_position_bias_table.grad.abs().min() > 0


def test_wrong_rows_are_refused():
    with pytest.raises(ValueError, match='4x4 grid has 52 rows, but this one has 50'):
        resize_table(torch.zeros(50, 2), (4, 4), (5, 5))


@pytest.mark.parametrize('grid', [(3, 3), (2, 4)])
def test_bias_and_its_gradient_are_sums_over_the_index(grid):
    length, rows = grid[0] * grid[1] + 1, num_table_rows(grid)
    table = torch.randn(rows, 2, dtype=torch.float64, requires_grad=True)
    index = relative_position_index(grid)
    bias = relative_position_bias(table, index, grid, grid)
    incoming = torch.randn(2, length, length, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(bias, table, incoming)
    expected = torch.zeros_like(table)
    for i in range(length):
        for j in range(length):
            assert torch.equal(bias[:, i, j], table[index[i, j]])
            expected[index[i, j]] += incoming[:, i, j]
    assert torch.allclose(gradient, expected, atol=1e-12)


def test_weights_that_are_written_past_torch_are_seen():
    """As averages of weights are, while the model they follow trains."""
    bias = SharedRelativePositionBias((4, 4), 2).train()
    with torch.no_grad():
        assert not bias((4, 4)).any()
        bias.relative_position_bias_table.data.fill_(1.0)
        assert bias((4, 4)).all()


def test_an_index_of_inference_mode_can_be_learnt_with():
    bias = SharedRelativePositionBias((4, 4), 2)
    with torch.inference_mode():
        bias((7, 3))
    bias((7, 3)).sum().backward()
    assert bias.relative_position_bias_table.grad.any()
