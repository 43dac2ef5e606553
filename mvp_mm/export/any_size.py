"""A student whose graph takes images of any size, with the positions that it computes in Python."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..weights.bias_tables import Grid, axis_weights
from .student import ExportedStudent

LONGEST = 64  # patches a side that a graph takes at most: 1,024 pixels for patches of 16


class AnyGridBias(nn.Module):
    """The bias of :func:`.relative_position_bias` for a grid that is known only when the graph runs.

    The spline that resizes a table is linear in it, so a graph can look its weights up: one matrix for each
    length of a side up to ``longest``.
    """

    rows: Tensor
    cols: Tensor
    body: Tensor
    of_cls: Tensor

    def __init__(self, table: Tensor, window: Grid, longest: int) -> None:
        super().__init__()
        self.longest = longest
        for name, source in zip(('rows', 'cols'), window, strict=True):
            weights = torch.zeros(longest + 1, 2 * longest - 1, 2 * source - 1)
            for target in range(1, longest + 1):
                # offset 0 in the middle, so that it lies at one place for every grid
                weights[target, longest - target : longest + target - 1] = axis_weights(source, target)
            self.register_buffer(name, weights)
        self.register_buffer('body', table[:-3].view(2 * window[0] - 1, 2 * window[1] - 1, -1))
        self.register_buffer('of_cls', table[-3:].t()[..., None, None])

    def forward(self, grid: Any) -> Tensor:
        """Return the bias ``(num_heads, L, L)`` of a grid ``(h, w)``, CLS first."""
        body = torch.einsum('ij,kl,jlh->hik', self.rows[grid[0]], self.cols[grid[1]], self.body)
        down, right = (torch.arange(side) for side in grid)
        rows, cols = (at[:, None] - at + self.longest - 1 for at in (down, right))
        bias = body[:, rows[:, None, :, None], cols[None, :, None, :]].flatten(3, 4).flatten(1, 2)
        patches = bias.shape[-1]
        above, beside, corner = self.of_cls.unbind(1)
        above, beside = above.expand(-1, 1, patches), beside.expand(-1, patches, 1)
        return torch.cat([torch.cat([corner, above], 2), torch.cat([beside, bias], 2)], 1)


def why_one_size(student: ExportedStudent) -> str | None:
    """Say why a student's graph cannot take images of any size; None if it can."""
    encoder = student.encoder
    if not student.can_resize:
        return 'its encoder is made for one'
    if encoder.pos_embed is not None:
        return 'it has absolute positions'
    if encoder.rel_pos_bias is None and any(layer.attn.window for layer in encoder.layers):
        return 'it has a bias table for each block'
    return None


def any_size(student: ExportedStudent) -> ExportedStudent:
    """Return a copy of a student that can be traced at every size of whole patches up to :data:`LONGEST`."""
    copied = copy.deepcopy(student)
    encoder, shared = copied.encoder, copied.encoder.rel_pos_bias
    encoder.patch_embed.adaptive_padding = None  # which asks for numbers
    if shared is not None:
        table = shared.relative_position_bias_table.detach()
        encoder.rel_pos_bias = AnyGridBias(table, encoder.window, max(LONGEST, *encoder.window))
    return copied
