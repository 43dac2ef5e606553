"""A checkpoint into a whole model: all of it, to evaluate or go on; or what there is of it, to train from."""

import logging

from mmengine.logging import print_log
from torch import Tensor, nn

from ..models.backbones.mvp_vit import MVPViT
from .bias_tables import INDEX
from .load import MARKS, fill
from .read import renamed, require_finite

# Only pre-training has it.
MASK_TOKEN = 'backbone.mask_token'


def fill_whole(model: nn.Module, weights: dict[str, Tensor], source: str, without: str | None = None) -> None:
    """Fill every entry of a model, as evaluating it and going on with its training need.

    Positions of another patch grid are resized, as :class:`MVPViT` does by itself.

    Args:
        model: Filled in place; not wrapped.
        weights: Tensors by name.
        source: Where they come from, for messages.
        without: A part that is neither filled nor looked at, such as ``'head'``. Default None.

    Raises:
        ValueError: If something is missing, has another shape, is not finite, or has no place in the model;
            says what the file is where that can be told.
    """
    own = [name for name in model.state_dict() if _counts(name, without)]
    weights = renamed(weights, str)
    for name in [name for name in weights if without is not None and _in(name, without)]:
        del weights[name]
    parts = list(dict.fromkeys(name.split('.')[0] for name in own))
    absent = [part for part in parts if not any(name in weights for name in own if _in(name, part))]
    if absent:
        raise ValueError(
            f'{source} does not fit: it has no {", no ".join(absent)}{_what_it_is(weights, source)}'
        )
    require_finite({name: weights[name] for name in own if name in weights}, source)
    try:
        keys = model.load_state_dict(weights, strict=False)
    except (RuntimeError, ValueError) as error:  # shapes; positions of a grid that nothing tells
        lines = str(error).splitlines()
        reason = ' '.join(line.strip() for line in (lines[1:3] or lines))
        raise ValueError(f'{source} does not fit: {reason}') from error
    missing = [name for name in keys.missing_keys if _counts(name, without)]
    if missing:
        raise ValueError(f'{source} does not fit: it has no {missing[0]} ({len(missing)} are missing)')
    unexpected = [name for name in keys.unexpected_keys if _counts(name, without)]
    if unexpected:
        raise ValueError(
            f'{source} does not fit: it has {unexpected[0]}, for which the model has no place '
            f'({len(unexpected)} such entries)'
        )


def start_from(model: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Fill what there is of a model before training it (``load_from``), and say what stays random.

    An :class:`MVPViT` as its backbone is filled as ``init_cfg`` fills it: wholly or not at all.

    Args:
        model: Filled in place; not wrapped.
        weights: Tensors by name.
        source: Where they come from, for messages.

    Raises:
        ValueError: If the backbone does not fit, nothing does, or what does is not finite.
    """
    backbone = getattr(model, 'backbone', None)
    own = model.state_dict()
    if isinstance(backbone, MVPViT):
        fill(backbone, weights, source, 'backbone.')
        own = {name: value for name, value in own.items() if not _in(name, 'backbone')}
    fitting = {name: weights[name] for name, value in own.items() if _fits(weights.get(name), value)}
    needs_some = [name for name in own if _in(name, 'backbone')] or (own if backbone is None else [])
    if needs_some and not any(name in fitting for name in needs_some):
        raise ValueError(
            f'{source} does not fit: of {len(needs_some)} entries of the model, such as '
            f'{list(needs_some)[0]}, it has none'
        )
    require_finite(fitting, source)
    model.load_state_dict(fitting, strict=False)
    fresh = [name for name in own if name not in fitting and _counts(name, None)]
    if fresh:
        print_log(
            f'{source} fills no more than {len(fitting)} of the {len(own)} other entries; these keep their '
            f'initialisation ({len(fresh)}): {", ".join(fresh[:6])}{", ..." if len(fresh) > 6 else ""}',
            logger='current',
            level=logging.WARNING,
        )


def _fits(found: Tensor | None, wanted: Tensor) -> bool:
    return found is not None and found.shape == wanted.shape


def _in(name: str, part: str) -> bool:
    return name.split('.')[0] == part


def _counts(name: str, without: str | None) -> bool:
    """Indices follow from the grid, and how many batches a norm has seen changes nothing."""
    return not name.endswith((INDEX, 'num_batches_tracked')) and (without is None or not _in(name, without))


def _what_it_is(weights: dict[str, Tensor], source: str) -> str:
    """Of a file without a part of the model: what kind of file that is, and what to do with it."""
    advice = f'train first, with --cfg-options model.backbone.init_cfg.checkpoint={source}'
    if MASK_TOKEN in weights:
        return f': it is a pre-training checkpoint, to train from and not to evaluate here; {advice}'
    if any(mark in weights for mark in MARKS):
        return f': it is a bare backbone; {advice}'
    if any(name.endswith(mark) for mark in MARKS for name in weights):
        return f'; it holds {_parts(weights)}. A checkpoint of the whole model is needed'
    return f', and no vision transformer; it holds {_parts(weights)}'


def _parts(weights: dict[str, Tensor]) -> str:
    parts = list(dict.fromkeys(name.split('.')[0] for name in weights))
    return ', '.join(parts[:6]) + (', ...' if len(parts) > 6 else '')
