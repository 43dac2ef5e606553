"""BEiT's relative position bias of attention; shapes as in :mod:`mvp_mm.weights.bias_tables`."""

from functools import lru_cache

import torch
from torch import Tensor, nn

from ...weights.bias_tables import Grid, num_table_rows, relative_position_index, resize_table


@lru_cache(maxsize=32)
def _index_on(window: Grid, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # a later step may learn with it
        return relative_position_index(window).to(device)


def relative_position_bias(table: Tensor, index: Tensor, window: Grid, grid: Grid) -> Tensor:
    """Return the bias of the attention logits: ``(num_heads, L', L')`` with ``L'`` tokens of ``grid``.

    ``table`` ``(rows, num_heads)`` is resized from ``window``, that of ``index`` ``(L, L)``, to other grids.
    """
    if tuple(grid) != tuple(window):
        table = resize_table(table, window, grid)
        index = _index_on(tuple(grid), table.device)
    length = index.shape[0]
    # A head's values side by side: forward and backward take a third of the time of rows of heads.
    return table.t().contiguous().index_select(1, index.reshape(-1)).view(-1, length, length)


class RelativePositionBias(nn.Module):
    """Base of modules with a bias table, under BEiT's names.

    In eval mode without gradients the last bias ``(num_heads, L, L)`` is kept, because sliding windows and
    batches use it again: 48 MiB per layer of a ViT-B at 512 pixels.
    """

    window: Grid | None = None  # of the table; None without one
    relative_position_bias_table: Tensor
    relative_position_index: Tensor

    def add_table(self, window: Grid, num_heads: int) -> None:
        """Add the table (zeros, as in BEiT) and its index buffer for the patch grid at the training size."""
        self.window = (window[0], window[1])
        self.relative_position_bias_table = nn.Parameter(torch.zeros(num_table_rows(window), num_heads))
        self.register_buffer('relative_position_index', relative_position_index(window))
        self._kept: tuple[tuple, Tensor] | None = None

    def __getstate__(self) -> dict:  # of copies and pickles
        return dict(super().__getstate__(), _kept=None)

    def position_bias(self, grid: Grid) -> Tensor:
        """Bias ``(num_heads, L, L)`` of a patch grid; in eval mode kept until the table changes or moves."""
        assert self.window is not None
        table, index = self.relative_position_bias_table, self.relative_position_index
        traced = torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export()
        # An inference tensor has no version, and averages of weights are written past it.
        if traced or self.training or torch.is_grad_enabled() or table.is_inference():
            self._kept = None
            return relative_position_bias(table, index, self.window, grid)
        key = (tuple(grid), table.device, table.dtype, table.data_ptr(), table._version)
        if self._kept is None or self._kept[0] != key:
            self._kept = key, relative_position_bias(table, index, self.window, grid)
        return self._kept[1]


class SharedRelativePositionBias(RelativePositionBias):
    """The table that all blocks share during pre-training (BEiT ``rel_pos_bias``)."""

    def __init__(self, window: Grid, num_heads: int) -> None:
        super().__init__()
        self.add_table(window, num_heads)

    def forward(self, grid: Grid) -> Tensor:
        """Bias ``(num_heads, L, L)`` of the input's patch grid."""
        return self.position_bias(grid)
