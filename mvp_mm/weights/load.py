"""Load any BEiT-family weight file into a vision transformer.

Sources: pre-training checkpoints of this package and mmpretrain (whole model or backbone), BEiT and ViT of
mmseg, timm and transformers, Microsoft's BEiT and BEiT v2, as ``.pth`` or safetensors. A table shared by all
blocks becomes one table per block, positions of another patch grid are resized, and a file that does not fill
the whole transformer is refused.
"""

from mmengine.logging import print_log
from torch import Tensor, nn

from .bias_tables import INDEX, Grid
from .fit_positions import Positioned, fit_positions
from .locate import local_path
from .names import mmseg, timm
from .names.transformers import names_from_transformers
from .read import (
    BACKBONE,
    as_grid,
    dotted,
    read_tensors,
    record_grid,
    recorded_grid,
    renamed,
    require_finite,
    several_networks,
)
from .report import LoadReport

# Ending of the patch embedding's name -> format; what stands before it is the prefix.
MARKS = {
    'patch_embed.projection.weight': 'mmpretrain',
    'patch_embed.proj.weight': 'BEiT',
    'embeddings.patch_embeddings.projection.weight': 'transformers',
}
TO_MMPRETRAIN = {
    'mmpretrain': mmseg.VIT.to_mmpretrain,  # whose other names are mmpretrain's
    'BEiT': timm.VIT.to_mmpretrain,
    'transformers': names_from_transformers,
}


def load(
    module: nn.Module, path_or_url: str | None, prefix: str | None = None, grid: Grid | None = None
) -> LoadReport:
    """Fill a module from a weight file.

    Args:
        module: Filled in place. A :class:`Positioned` transformer takes every format and grid; any other
            module takes a file with exactly its names, ``backbone.`` before them allowed.
        path_or_url: Path of a file or of a folder that transformers saved, http(s) address, or
            ``hf://owner/name/file``.
        prefix: Where in the file the transformer lies, such as ``'teacher.'`` or ``'teacher.backbone.'``,
            keys of nested dicts included. Default None: it is found, in a file with several under
            ``backbone.``. A bare backbone is taken whatever the prefix, and ``'backbone.'`` stands for
            wherever the only transformer lies.
        grid: Patch grid (rows, columns) at which the file's positions were trained. Default None: as the
            file tells it (see :func:`grid_of_positions`).

    Returns:
        The report, which is logged as well.

    Raises:
        FileNotFoundError: If there is no such file, or none was named.
        ValueError: If the file is no plain weight file; it has several transformers, or none at ``prefix``;
            an entry of the transformer is missing, has another shape or is not finite; or nothing tells
            the grid of its positions.
    """
    if not path_or_url:
        raise FileNotFoundError(
            'no pre-trained checkpoint was given: add --cfg-options '
            'model.backbone.init_cfg.checkpoint=FILE_OR_URL, or train from scratch with '
            'model.backbone.init_cfg=None'
        )
    return fill(module, read_weights(path_or_url, prefix), path_or_url, prefix, grid)


load_pretrained = load  # its name in 0.1


def read_weights(checkpoint: str, prefix: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a file or address by name, and run nothing in it; arguments as :func:`load`."""
    return read_tensors(local_path(checkpoint), prefix)


def fill(
    module: nn.Module,
    weights: dict[str, Tensor],
    source: str,
    prefix: str | None = None,
    grid: Grid | None = None,
) -> LoadReport:
    """Fill a module as :func:`load`, from weights by name that were read from ``source``."""
    if grid is not None and as_grid(grid) is None:
        raise ValueError(f'init_cfg.grid={grid!r} is no patch grid: expected rows and columns, such as 8,12')
    if isinstance(module, Positioned):
        weights, report = find_backbone(weights, source, prefix)
        try:
            fitted = fit_positions(weights, module, recorded=recorded_grid(weights), given=as_grid(grid))
        except ValueError as error:
            raise ValueError(f'{source} does not fit: {error}') from error
        weights, report.expanded, report.resized = fitted
    else:
        start = dotted(prefix) or BACKBONE
        start = start if any(name.startswith(start) for name in weights) else ''
        weights = {n.removeprefix(start): value for n, value in weights.items() if n.startswith(start)}
        report = LoadReport(source, "the module's own", start)
    own = module.state_dict()
    for name, value in own.items():
        if name.endswith(INDEX):
            continue
        if name in weights:
            report.loaded.append(name)
        elif _is_optional(name):
            report.missing.append(name)
        else:
            raise ValueError(
                f'{source} does not fit: it has no {name}, which the model needs with shape '
                f'{tuple(value.shape)}'
            )
        if name in weights and weights[name].shape != value.shape:
            raise ValueError(
                f'{source} does not fit: {name} has shape {tuple(weights[name].shape)} there, and '
                f'{tuple(value.shape)} in the model (another width, patch size or number of classes? '
                'mvp-mm: another --student?)'
            )
    report.unexpected = [name for name in weights if name not in own and not name.endswith(INDEX)]
    deeper = next((name for name in report.unexpected if name.startswith('layers.')), None)
    if deeper is not None:
        raise ValueError(
            f'{source} does not fit: it has {deeper}, for which the model has no place (fewer blocks, '
            'or no layer scale or position bias?)'
        )
    filled = {name: weights[name] for name in report.loaded}
    require_finite(filled, source)
    own.update(filled)  # in place: its metadata tell that the positions are of this grid
    module.load_state_dict(own)
    print_log(str(report), logger='current')
    return report


def _is_optional(name: str) -> bool:
    """Norms outside of the blocks and the mask token may start fresh; the transformer may not."""
    return name.startswith(('ln1.', 'ln2.')) or name == 'mask_token'


def find_backbone(
    weights: dict[str, Tensor], source: str, prefix: str | None = None
) -> tuple[dict[str, Tensor], LoadReport]:
    """Find the transformer in the weights of a file.

    Returns:
        Its entries under mmpretrain's names, and a report that says where they were found.

    Raises:
        ValueError: If there is no vision transformer in it, or there are several.
    """
    found = {
        name.removesuffix(mark): form
        for name in weights
        for mark, form in MARKS.items()
        if name.endswith(mark)
    }
    if not found:
        raise ValueError(
            f'{source} holds no vision transformer: none of its {len(weights)} entries ends with '
            f'{" or ".join(MARKS)}'
        )
    start = _start(list(found), prefix, source)
    form = found[start]
    inside = {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}
    inside = renamed(TO_MMPRETRAIN[form](inside), str)
    if form == 'transformers':
        # Its model for masked images keeps the final norm outside of the backbone, beside the predictor.
        outside = start.removesuffix('beit.')
        for kind in ('weight', 'bias'):
            if f'{outside}lm_head.weight' in weights and f'{outside}layernorm.{kind}' in weights:
                inside.setdefault(f'ln1.{kind}', weights[f'{outside}layernorm.{kind}'])
    recorded = recorded_grid(weights, start)
    if recorded is not None:
        record_grid(inside, recorded)
    others = [other for other in found if other != start]
    asked = dotted(prefix)
    ignored = '' if start.startswith(asked) or asked == BACKBONE else asked
    return inside, LoadReport(str(source), form, start, others, ignored)


def _start(found: list[str], prefix: str | None, source: str) -> str:
    """Return what the names of the wanted transformer begin with."""
    asked = dotted(prefix)
    if prefix is not None and asked in found:
        return asked
    inside = [start for start in found if asked and start.startswith(asked)]
    if len(inside or found) == 1:
        start = (inside or found)[0]
        if inside or start == '' or asked in ('', BACKBONE):
            return start
        raise ValueError(
            f'{source} has no transformer under the prefix {asked}: it has one under {start} '
            f'(model.backbone.init_cfg.prefix={start}; tools/export.py: --prefix {start})'
        )
    if not asked and BACKBONE in found:
        return BACKBONE
    raise ValueError(several_networks(source, inside or found, '' if inside else asked))
