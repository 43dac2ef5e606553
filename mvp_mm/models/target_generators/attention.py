"""Attention of teachers' networks, recomputed to look at it."""

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


def attention_in_a_run(module: nn.Module, run: Callable[[], object]) -> Tensor:
    """Compute the probabilities ``(B, heads, L, L)`` of an attention module in one ``run`` of its network.

    ValueError if it is neither torch's or open_clip's (``in_proj_weight``) nor timm's (``fused_attn``).
    """
    is_timms = hasattr(module, 'fused_attn') and hasattr(module, 'attn_drop')
    if not is_timms and getattr(module, 'in_proj_weight', None) is None:
        raise ValueError(f'the attention of a {type(module).__name__} cannot be had')
    calls: list[tuple] = []
    with module.register_forward_pre_hook(lambda _, *call: calls.append(call), with_kwargs=True):
        run()
    args, kwargs = calls[-1]
    return _of_timm(module, args, kwargs) if is_timms else _of_open_clip(module, args[0])


def _of_open_clip(module: Any, tokens: Tensor) -> Tensor:
    """Follow torch's attention, or open_clip's with its optional norms; tokens ``(B, L, C)``."""
    qkv = F.linear(tokens, module.in_proj_weight, module.in_proj_bias)
    query, key, _ = (part.unflatten(-1, (module.num_heads, -1)).transpose(1, 2) for part in qkv.chunk(3, -1))
    logit_scale = getattr(module, 'logit_scale', None)
    if logit_scale is not None:  # scaled cosine attention
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        query = query * logit_scale.clamp(max=module.logit_scale_max).exp()
    else:
        if hasattr(module, 'ln_q'):
            query, key = module.ln_q(query), module.ln_k(key)
        query = query * query.shape[-1] ** -0.5
    return (query @ key.transpose(-2, -1)).softmax(-1)


def _of_timm(module: Any, args: tuple, kwargs: dict) -> Tensor:
    # In a copy, because the fused kernel, which never holds the probabilities, has to be switched off.
    module = copy.deepcopy(module)
    module.fused_attn = False
    found: list[Tensor] = []
    module.attn_drop.register_forward_hook(lambda _, inputs, output: found.append(inputs[0]))
    module(*args, **kwargs)
    return found[-1]
