"""Let a backbone's config have its checkpoint's kind of positions, biases and layer scale."""

import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mmpretrain.registry import MODELS
from torch import Tensor

from ..weights.load import find_backbone
from ..weights.locate import local_path
from ..weights.read import read_checkpoint, tensors_by_name
from ..weights.traits import as_options, changes, traits


def follow_checkpoint(backbone: Any, weights: dict[str, Tensor], prefix: str | None = None) -> str:
    """Change a backbone's config where a checkpoint's transformer is of another kind.

    A downstream config for BEiT's parameters then takes a plain ViT, as RILS, MAE and DINO train, and the
    other way round. Sizes stay. Nothing changes where the class of ``backbone.type`` has no ``traits_of``, or
    there is no transformer in ``weights``: loading then says what is wrong.

    Args:
        backbone: ``model.backbone`` of a config, changed in place.
        weights: The checkpoint's, by name.
        prefix: As for :func:`~mvp_mm.weights.load.load`.

    Returns:
        What has changed, a line for the log; empty if nothing has.
    """
    told = _traits_of(backbone)
    try:
        values = told and changes(told(backbone), traits(find_backbone(weights, '', prefix)[0]))
    except ValueError:
        return ''
    if not values:
        return ''
    backbone.update(values)
    return f"The backbone is of its checkpoint's kind, not the config's: {as_options(values)}"


def follow_first_readable(backbone: Any, files: Iterable[str | Path], prefix: str | None = None) -> str:
    """:func:`follow_checkpoint` of the first that can be read; loading says what is wrong with others."""
    if _traits_of(backbone) is None:
        return ''
    for file in files:
        try:
            path = local_path(file)
            content = read_checkpoint(path, mmap=zipfile.is_zipfile(path))
            return follow_checkpoint(backbone, tensors_by_name(content, path, prefix), prefix)
        except (OSError, ValueError):
            continue
    return ''


def _traits_of(backbone: Any) -> Callable[[Any], dict[str, Any]] | None:
    # a model may have no backbone, and a config of MMEngine's lazy kind has a class here
    kind = backbone.get('type')
    return getattr(MODELS.get(kind) if isinstance(kind, str) else kind, 'traits_of', None)
