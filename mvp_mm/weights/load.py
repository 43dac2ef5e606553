"""Load weight files of BEiT and ViT from this package, OpenMMLab, timm, transformers and Microsoft."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from mmengine.logging import print_log
from torch import Tensor, nn

from .bias_tables import INDEX, SHARED_TABLE, Grid
from .fit_positions import Positioned, fit_positions
from .locate import local_path
from .names.scheme import MMSEG_VIT, TIMM_VIT
from .names.transformers import names_from_transformers
from .read import (
    BACKBONE,
    as_grid,
    dotted,
    first_few,
    read_tensors,
    record_grid,
    recorded_grid,
    renamed,
    require_finite,
    several_networks,
)
from .traits import POSITIONS, as_options, changes, traits

# Ending of the patch embedding's name -> format, and the way to mmpretrain's names; what stands before the
# ending is the prefix.
MARKS = {
    'patch_embed.projection.weight': ('mmpretrain', MMSEG_VIT.to_mmpretrain),  # differ in attention only
    'patch_embed.proj.weight': ('BEiT', TIMM_VIT.to_mmpretrain),
    'embeddings.patch_embeddings.projection.weight': ('transformers', names_from_transformers),
}

MASKS = ('mask_token', 'mask_colour')  # of pre-training
HEAD = 'neck.'  # what names of a pre-training head begin with


@runtime_checkable
class Adapting(Protocol):
    """A module that brings another library's weights to its own names and sizes."""

    def adapt_weights(self, weights: dict[str, Tensor], source: str) -> dict[str, Tensor]: ...


@dataclass
class LoadReport:
    """What was loaded from a weight file."""

    source: str  # file or address
    format: str  # whose names it has: 'mmpretrain', 'BEiT' (Microsoft, timm) or 'transformers'
    prefix: str = ''  # what the transformer's names begin with in the file
    others: list[str] = field(default_factory=list)  # prefixes of further transformers in the file
    ignored: str = ''  # the prefix that was asked for, if the file is a bare backbone without it
    loaded: list[str] = field(default_factory=list)
    expanded: list[str] = field(default_factory=list)  # tables copied from the shared one
    resized: list[str] = field(default_factory=list)  # 'name: from -> to' of tables and position embeddings
    missing: list[str] = field(default_factory=list)  # parameters that keep their initialisation
    unexpected: list[str] = field(default_factory=list)  # entries that the model has no place for
    head: bool = False  # whether a pre-training that takes the student leaves out the head beside it

    def __str__(self) -> str:
        where = f' under {self.prefix}' if self.prefix else ''
        text = f'Pre-trained weights of {self.source} ({self.format} names{where}): {len(self.loaded)} loaded'
        if self.others:
            text += (
                f'\n  the file has other transformers too, under {", ".join(self.others)}: to take one, give '
                f'model.backbone.init_cfg.prefix={self.others[0]} (tools/export.py: --prefix)'
            )
        if self.ignored:
            text += f'\n  there is no {self.ignored} in it: it is a bare backbone, and taken as a whole'
        for what in ('expanded', 'resized', 'missing', 'unexpected'):
            names = getattr(self, what)
            text += f'\n  {what} ({len(names)}): {first_few(names)}' if names else ''
        if self.head:
            text += (
                '\n  the head beside it is not taken, and a new one disturbs the student at first: to go on '
                f'with the same teacher, give load_from={self.source} instead'
            )
        return text


def load(
    module: nn.Module,
    path_or_url: str | None,
    prefix: str | None = None,
    grid: Grid | None = None,
    is_start: bool = False,
) -> LoadReport:
    """Fill a module from a weight file, log and return the report; refuse what does not fill a transformer.

    A table shared by all blocks becomes one table per block, positions of another patch grid are resized.

    Args:
        module: Filled in place. A :class:`Positioned` transformer takes every format and grid; any other
            module takes a file with exactly its names, ``backbone.`` before them allowed.
        path_or_url: File, folder that transformers saved, http(s) address, or ``hf://owner/name/file``.
        prefix: Where in the file the transformer lies, such as ``'teacher.'`` or ``'teacher.backbone.'``,
            keys of nested dicts included. Default None: it is found, in a file with several under
            ``backbone.``. A bare backbone is taken whatever the prefix, and ``'backbone.'`` stands for
            wherever the only transformer lies.
        grid: Patch grid (rows, columns) at which the file's positions were trained. Default None: as the
            file tells it, else a square.
        is_start: Whether a training starts from it; of a student that is masked, the report then says that a
            head beside it is left out. Default False.

    Raises:
        FileNotFoundError: If there is no such file, or none was named.
        ValueError: If the file is no plain weight file; it has several transformers, or none at ``prefix``;
            an entry of the transformer is missing, has another shape or is not finite; or nothing tells
            the grid of its positions.
    """
    if not path_or_url:
        raise FileNotFoundError(
            'no pre-trained checkpoint was given: add --cfg-options model.backbone.init_cfg.checkpoint='
            'FILE_OR_URL, or train from scratch with model.backbone.init_cfg=None'
        )
    return fill(module, read_tensors(local_path(path_or_url), prefix), path_or_url, prefix, grid, is_start)


load_pretrained = load  # its name in 0.1


def fill(
    module: nn.Module,
    weights: dict[str, Tensor],
    source: str,
    prefix: str | None = None,
    grid: Grid | None = None,
    is_start: bool = False,
) -> LoadReport:
    """Fill a module as :func:`load`, from weights by name that were read from ``source``."""
    given, refused = as_grid(grid), f'{source} does not fit: '
    is_masked = any(getattr(module, name, None) is not None for name in MASKS)
    leaves_head = is_start and is_masked and any(name.startswith(HEAD) for name in weights)
    if grid is not None and given is None:
        raise ValueError(f'init_cfg.grid={grid!r} is no patch grid: expected rows and columns, such as 8,12')
    if isinstance(module, Positioned):
        weights, report = find_backbone(weights, source, prefix)
        try:
            fitted = fit_positions(weights, module, recorded=recorded_grid(weights), given=given)
        except ValueError as error:
            raise ValueError(f'{refused}{error}') from error
        weights, report.expanded, report.resized = fitted
    else:
        start = dotted(prefix) or BACKBONE
        start = start if any(name.startswith(start) for name in weights) else ''
        weights = {n.removeprefix(start): value for n, value in weights.items() if n.startswith(start)}
        report = LoadReport(source, "the module's own", start)
        if isinstance(module, Adapting):
            weights = module.adapt_weights(weights, source)
    own = module.state_dict()
    options = as_options(changes(traits(own), traits(weights))) if isinstance(module, Positioned) else ''
    other_kind = f': it is a transformer of another kind; add --cfg-options {options}' if options else ''
    for name in [name for name in own if not name.endswith(INDEX)]:
        shape = tuple(own[name].shape)
        if name not in weights:
            # Norms outside of the blocks and masks may start fresh; the transformer may not.
            if not name.startswith(('ln1.', 'ln2.')) and name not in MASKS:
                raise ValueError(
                    f'{refused}it has no {name}, which the model needs with shape {shape}{other_kind}'
                )
            report.missing.append(name)
        elif weights[name].shape != shape:
            raise ValueError(
                f'{refused}{name} has shape {tuple(weights[name].shape)} there, and {shape} in the model '
                '(another width, patch size or number of classes? mvp-mm: another --student?)'
            )
        else:
            report.loaded.append(name)
    report.head = leaves_head
    report.unexpected = [name for name in weights if name not in own and not name.endswith(INDEX)]
    # Without them, the rest of the transformer would be another network.
    lost = [n for n in report.unexpected if n.startswith('layers.') or n in (POSITIONS, SHARED_TABLE)]
    if lost:
        why = other_kind or ' (fewer blocks?)'
        raise ValueError(f'{refused}it has {lost[0]}, for which the model has no place{why}')
    filled = {name: weights[name] for name in report.loaded}
    require_finite(filled, source)
    own.update(filled)  # in place: its metadata tell that the positions are of this grid
    module.load_state_dict(own)
    print_log(str(report), logger='current')
    return report


def find_backbone(
    weights: dict[str, Tensor], source: str, prefix: str | None = None
) -> tuple[dict[str, Tensor], LoadReport]:
    """Return the entries of a file's transformer under mmpretrain's names, and where they were found."""
    found = {n.removesuffix(mark): form for n in weights for mark, form in MARKS.items() if n.endswith(mark)}
    if not found:
        raise ValueError(
            f'{source} holds no vision transformer: none of its {len(weights)} entries ends with '
            f'{" or ".join(MARKS)}'
        )
    start = _start(list(found), prefix, source)
    form, to_mmpretrain = found[start]
    inside = {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}
    inside = renamed(to_mmpretrain(inside), str)
    # transformers' model for masked images keeps the final norm outside of the backbone.
    outside = start.removesuffix('beit.')
    for kind in ('weight', 'bias') if f'{outside}lm_head.weight' in weights else ():
        norm = weights.get(f'{outside}layernorm.{kind}')
        if form == 'transformers' and norm is not None:
            inside.setdefault(f'ln1.{kind}', norm)
    record_grid(inside, recorded_grid(weights, start))
    asked = dotted(prefix)
    ignored = '' if start.startswith(asked) or asked == BACKBONE else asked
    return inside, LoadReport(source, form, start, [other for other in found if other != start], ignored)


def _start(found: list[str], prefix: str | None, source: str) -> str:
    """Return what the names of the wanted transformer begin with."""
    asked = dotted(prefix)
    if prefix is not None and asked in found:
        return asked
    inside = [start for start in found if asked and start.startswith(asked)]
    start, *others = inside or found
    if others and not asked and BACKBONE in found:
        return BACKBONE
    if others:
        raise ValueError(several_networks(source, inside or found, '' if inside else asked))
    if inside or start == '' or asked in ('', BACKBONE):
        return start
    raise ValueError(
        f'{source} has no transformer under the prefix {asked}: it has one under {start} '
        f'(model.backbone.init_cfg.prefix={start}; tools/export.py: --prefix {start})'
    )
