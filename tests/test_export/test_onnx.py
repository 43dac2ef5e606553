import pytest
import torch

from mvp_mm.export.onnx import AnyGridBias, why_one_size
from mvp_mm.export.student import ExportedStudent
from mvp_mm.models.backbones.relative_position import relative_position_bias
from mvp_mm.weights.bias_tables import num_table_rows, relative_position_index


@pytest.mark.parametrize('window', [(4, 4), (3, 5)])
def test_is_the_students_own_bias(window):
    table = torch.randn(num_table_rows(window), 2, generator=torch.Generator().manual_seed(0))
    bias, index = AnyGridBias(table, window, longest=9), relative_position_index(window)
    for grid in (window, (1, 1), (2, 9), (9, 3), (8, 8)):
        expected = relative_position_bias(table, index, window, grid)
        torch.testing.assert_close(bias(grid), expected, rtol=0, atol=2e-6)


def test_why_not(arguments):
    own = dict(use_shared_rel_pos_bias=False)
    for changes, reason in (
        ({}, None),
        (dict(own, use_rel_pos_bias=True), 'it has a bias table for each block'),
        (dict(own, use_abs_pos_emb=True), 'it has absolute positions'),
        (own, None),  # no positions
    ):
        assert why_one_size(ExportedStudent(arguments(**changes))) == reason
