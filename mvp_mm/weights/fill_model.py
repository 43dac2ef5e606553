"""Load a checkpoint into a whole model: all of it to evaluate or resume, or what fits to train from."""

import logging

from mmengine.logging import print_log
from torch import Tensor, nn

from .bias_tables import INDEX
from .fit_positions import Positioned
from .load import MARKS, Adapting, fill
from .read import BACKBONE, first_few, renamed, require_finite


def fill_whole(model: nn.Module, weights: dict[str, Tensor], source: str, without: str | None = None) -> None:
    """Fill every entry of an unwrapped model, as evaluation and resuming need, or raise ValueError.

    A transformer in it fits positions to its grid by itself. The part ``without``, such as ``'head'``, is
    neither filled nor looked at.
    """
    refused = f'{source} does not fit: '
    own = [name for name in model.state_dict() if _counts(name, without)]
    weights = renamed(weights, str)
    for name in [name for name in weights if _part(name) == without]:
        del weights[name]
    absent = [part for part in _parts(own) if part not in _parts([name for name in own if name in weights])]
    if absent:
        raise ValueError(f'{refused}it has no {", no ".join(absent)}{_what_it_is(weights, source)}')
    require_finite({name: weights[name] for name in own if name in weights}, source)
    try:
        keys = model.load_state_dict(weights, strict=False)
    except (RuntimeError, ValueError) as error:  # shapes; positions whose grid nothing tells
        lines = str(error).splitlines()
        reason = ' '.join(line.strip() for line in (lines[1:3] or lines))
        raise ValueError(f'{refused}{reason}') from error
    missing = [name for name in keys.missing_keys if _counts(name, without)]
    if missing:
        raise ValueError(f'{refused}it has no {missing[0]} ({len(missing)} are missing)')
    unexpected = [name for name in keys.unexpected_keys if _counts(name, without)]
    if unexpected:
        raise ValueError(
            f'{refused}it has {unexpected[0]}, for which the model has no place ({len(unexpected)} such)'
        )


def start_from(model: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Fill what fits of a model before training it (``load_from``), and warn of what stays random.

    A backbone that tells its patch grid (:class:`Positioned`) is filled wholly or not at all.
    """
    backbone, own = getattr(model, 'backbone', None), model.state_dict()
    if isinstance(backbone, Positioned | Adapting):
        assert isinstance(backbone, nn.Module)
        fill(backbone, weights, source, BACKBONE)
        own = {name: value for name, value in own.items() if _part(name) != 'backbone'}
    fitting = {n: weights[n] for n, value in own.items() if n in weights and weights[n].shape == value.shape}
    needed = [name for name in own if _part(name) == 'backbone' or backbone is None]
    if needed and fitting.keys().isdisjoint(needed):
        raise ValueError(
            f'{source} does not fit: of {len(needed)} entries of the model, such as {needed[0]}, it has none'
        )
    require_finite(fitting, source)
    model.load_state_dict(fitting, strict=False)
    fresh = [name for name in own if name not in fitting and _counts(name, None)]
    if fresh:
        message = (
            f'{source} fills no more than {len(fitting)} of the {len(own)} other entries; these keep their '
            f'initialisation ({len(fresh)}): {first_few(fresh)}'
        )
        print_log(message, logger='current', level=logging.WARNING)


def _part(name: str) -> str:
    return name.split('.')[0]


def _parts(names: list[str]) -> list[str]:
    return list(dict.fromkeys(map(_part, names)))


def _counts(name: str, without: str | None) -> bool:
    """Indices follow from the grid, and the number of batches that a norm has seen changes nothing."""
    return not name.endswith((INDEX, 'num_batches_tracked')) and _part(name) != without


def _what_it_is(weights: dict[str, Tensor], source: str) -> str:
    """Say what kind of file lacks a part of the model, and what to do with it."""
    advice = f'train first, with --cfg-options model.backbone.init_cfg.checkpoint={source}'
    held = f'it holds {first_few(_parts(list(weights)))}'
    if f'{BACKBONE}mask_token' in weights:  # which only pre-training has
        return f': it is a pre-training checkpoint, to train from and not to evaluate here; {advice}'
    if any(mark in weights for mark in MARKS):
        return f': it is a bare backbone; {advice}'
    if any(name.endswith(tuple(MARKS)) for name in weights):
        return f'; {held}. A checkpoint of the whole model is needed'
    return f', and no vision transformer; {held}'
