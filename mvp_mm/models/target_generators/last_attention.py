"""The attention that a teacher's network pays, for looking at it: no part of training."""

import copy
from collections.abc import Callable

from torch import Tensor, nn


def attention_in_a_run(module: nn.Module, run: Callable[[], object]) -> Tensor:
    """What an attention module attends to while its network runs once.

    The input of the module is caught by a hook; then the module itself is called with it once more, in
    the way in which it gives its probabilities. The network is not changed.

    Args:
        module: torch's ``MultiheadAttention`` (open_clip), or one with ``fused_attn`` and ``attn_drop``
            (timm), in eval mode.
        run: Runs the network.

    Returns:
        ``(B, heads, L, L)``; each row sums to one.

    Raises:
        ValueError: If the module is of another kind.
    """
    is_torchs = isinstance(module, nn.MultiheadAttention)
    if not (is_torchs or (hasattr(module, 'fused_attn') and hasattr(module, 'attn_drop'))):
        raise ValueError(f'the attention of a {type(module).__name__} cannot be had')
    calls: list[tuple[tuple, dict]] = []
    hook = module.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True
    )
    try:
        run()
    finally:
        hook.remove()
    args, kwargs = calls[-1]
    if is_torchs:
        return module(*args, **{**kwargs, 'need_weights': True, 'average_attn_weights': False})[1]
    # A copy, because the fused path has to be switched off: it never holds the probabilities.
    module = copy.deepcopy(module)
    module.fused_attn = False
    found: list[Tensor] = []
    module.attn_drop.register_forward_hook(lambda _, inputs, output: found.append(inputs[0]))
    module(*args, **kwargs)
    return found[-1]
