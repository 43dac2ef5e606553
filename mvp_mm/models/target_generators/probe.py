"""Run a teacher's network once, to see what it gives."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...weights.read import first_line

Encode = Callable[[nn.Module, Tensor, tuple[int, int]], Tensor]


@torch.no_grad()
def probe(
    encode: Encode, teacher: nn.Module, patch_size: int, image_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Encode a random image of the teacher's own size.

    Args:
        encode: As :meth:`TargetGenerator.encode`.
        teacher: The network; on the meta device nothing is computed, and shapes are right all the same.
        patch_size: Its patch side in pixels.
        image_size: ``(H, W)`` it was trained at.

    Returns:
        The image ``(1, 3, h * patch_size, w * patch_size)`` and its tokens ``(1, 1 + h * w, D)``.

    Raises:
        ValueError: If there is not one token for CLS and one for every patch.
    """
    grid = tuple(side // patch_size for side in image_size)
    images = torch.rand(
        1, 3, *(cells * patch_size for cells in grid), generator=torch.Generator().manual_seed(0)
    )
    images = images.to(next((parameter.device for parameter in teacher.parameters()), 'cpu'))
    tokens = encode(teacher, images, grid)
    expected = 1 + grid[0] * grid[1]
    if not isinstance(tokens, Tensor) or tokens.ndim != 3 or tokens.shape[1] != expected:
        got = tuple(tokens.shape)[1:] if isinstance(tokens, Tensor) else type(tokens).__name__
        raise ValueError(
            f'{type(teacher).__name__} gives {got} for a {grid[0]}x{grid[1]} patch grid, but a teacher must '
            f'give {expected} tokens: CLS and one a patch'
        )
    return images, tokens


def probe_unknown(
    encode: Encode, teacher: nn.Module, patch_size: int, image_size: tuple[int, int], name: str
) -> tuple[Tensor, Tensor]:
    """As :func:`probe`, for a network of which nothing is known: whatever it raises is a refusal.

    Raises:
        ValueError: If the network cannot serve; names the model and the reason.
    """
    try:
        return probe(encode, teacher, patch_size, image_size)
    except Exception as error:
        reason = first_line(error)
        reason = reason if isinstance(error, ValueError) else f'{type(error).__name__}: {reason}'
        raise ValueError(
            f'{name} cannot serve as a teacher ({reason}): use a vision transformer with a CLS token'
        ) from error
