"""BEiT's relative position bias in attention; shapes are those of :mod:`mvp_mm.weights.bias_tables`."""

from functools import lru_cache

import torch
from torch import Tensor, nn

from ...weights.bias_tables import Grid, _index, num_table_rows, relative_position_index, resize_table


@lru_cache(maxsize=32)
def _index_on(window: Grid, device: torch.device) -> Tensor:
    return _index(window).to(device)


def add_relative_position_table(module: nn.Module, window: Grid, num_heads: int) -> None:
    """Give ``module`` the table (zeros, as in BEiT) and the index buffer under BEiT's names."""
    module.relative_position_bias_table = nn.Parameter(torch.zeros(num_table_rows(window), num_heads))
    module.register_buffer('relative_position_index', relative_position_index(window))


def relative_position_bias(table: Tensor, index: Tensor, window: Grid, grid: Grid) -> Tensor:
    """Bias to add to the attention logits.

    Args:
        table: ``(rows of window, num_heads)``.
        index: ``(L, L)`` of ``window``.
        window: Grid that the table belongs to.
        grid: Grid of the present input; where it differs, the table is resized first, in a way that
            gradients pass through.

    Returns:
        ``(num_heads, L', L')`` with ``L'`` tokens of ``grid``, in the table's dtype.
    """
    if tuple(grid) != tuple(window):
        table = resize_table(table, window, grid)
        index = _index_on(tuple(grid), table.device)
    length = index.shape[0]
    # A head's values side by side: forward and backward take a third of the time of rows of heads.
    return table.t().contiguous().index_select(1, index.reshape(-1)).view(-1, length, length)


class BiasCache:
    """The bias that was last computed without gradients, which sliding windows and batches use again.

    It holds one ``(num_heads, L, L)``: 48 MiB of a ViT-B's layer at 512 pixels.
    """

    def __init__(self) -> None:
        self._key: tuple | None = None
        self._bias: Tensor | None = None

    def __deepcopy__(self, memo: dict) -> 'BiasCache':
        return BiasCache()

    def bias(self, table: Tensor, index: Tensor, window: Grid, grid: Grid) -> Tensor:
        """As :func:`relative_position_bias`, from the cache where no gradient is asked for.

        Args:
            table: See there; a change in place or another device makes the bias anew.
            index: See there.
            window: See there.
            grid: See there.

        Returns:
            See there.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():
            self._key = self._bias = None
            return relative_position_bias(table, index, window, grid)
        version = None if table.is_inference() else table._version
        key = (tuple(grid), table.device, table.dtype, table.data_ptr(), version)
        if version is None or key != self._key:
            self._key, self._bias = key, relative_position_bias(table, index, window, grid)
        return self._bias


class SharedRelativePositionBias(nn.Module):
    """The one table that all blocks share during pre-training (BEiT ``rel_pos_bias``).

    Args:
        window: Patch grid ``(Wh, Ww)`` at the training size.
        num_heads: Attention heads.
    """

    def __init__(self, window: Grid, num_heads: int) -> None:
        super().__init__()
        self.window = tuple(window)
        self.bias_cache = BiasCache()
        add_relative_position_table(self, self.window, num_heads)

    def forward(self, grid: Grid) -> Tensor:
        """``(num_heads, L, L)`` for the patch grid of the present input."""
        return self.bias_cache.bias(
            self.relative_position_bias_table, self.relative_position_index, self.window, grid
        )
