"""What a teacher costs."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode


def cost_of(generator: Any, images: Tensor) -> str:
    """Say a :class:`TargetGenerator`'s parameters, multiply-adds and bytes of targets of a batch of crops.

    One image is encoded. Matrix products and convolutions count, as in the zoo's figures. Memory is that of
    the weights, in float32 and again in the type that targets are computed in if that is another.
    """
    kept, generator.compile_blocks = generator.compile_blocks, False  # the counter sees into no compiled code
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # nor into torch's fused attention layer
    try:
        with FlopCounterMode(display=False) as counter:
            targets = generator(images[:1])
    finally:
        generator.compile_blocks = kept
        torch.backends.mha.set_fastpath_enabled(fast)
    count = sum(parameter.numel() for parameter in generator.teacher.parameters())
    own, item = targets.dtype, targets.element_size()
    weights = count * (4 if own == torch.float32 else 4 + item)
    _, tokens, width = targets.shape
    an_image = tokens * width * item
    return (
        f'{count / 1e6:.1f} M parameters ({weights / 1e6:.0f} MB), '
        f'{counter.get_total_flops() / 2e9:.2f} G multiply-adds an image; targets {tokens} x {width} '
        f'{str(own).removeprefix("torch.")}, {an_image * len(images) / 1e6:.1f} MB a batch of {len(images)}'
    )
