"""Any BEiT-family weight file into an :class:`MVPViT`: one path, with a report.

Sources: this package's and mmpretrain's pre-training checkpoints (whole model or backbone), mmseg's BEiT,
Microsoft's BEiT and BEiT v2, timm's and transformers', as ``.pth`` or safetensors. A table shared by all
blocks becomes one table a block, tables of another patch grid are resized on BEiT's geometric grid, and a
file from which the transformer cannot be filled is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import torch
from mmengine.logging import print_log
from torch import Tensor

from .bias_tables import INDEX, Grid
from .fit_positions import fit_positions
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

if TYPE_CHECKING:
    from ..models.backbones.mvp_vit import MVPViT

# Microsoft's and timm's names -> mmpretrain's; transformers' are in transformers_names.py.
BEIT_NAMES = {
    'patch_embed.proj.': 'patch_embed.projection.',
    'blocks.': 'layers.',
    '.norm1.': '.ln1.',
    '.norm2.': '.ln2.',
    '.mlp.fc1.': '.ffn.layers.0.0.',
    '.mlp.fc2.': '.ffn.layers.1.',
}
# What stands before the patch embedding's name tells format and prefix.
MARKS = {
    'patch_embed.projection.weight': 'mmpretrain',
    'patch_embed.proj.weight': 'BEiT',
    'embeddings.patch_embeddings.projection.weight': 'transformers',
}
# How transformers names the one weight file of a folder that it saves.
FOLDER_FILES = ('model.safetensors', 'pytorch_model.bin')


@dataclass
class LoadReport:
    """What became of a weight file.

    Args:
        source: File or address.
        format: ``'mmpretrain'``, ``'BEiT'`` (Microsoft, timm) or ``'transformers'`` names.
        prefix: What the names of the transformer begin with in the file.
        others: What those of further transformers in the file begin with.
        ignored: The prefix that was asked for, where the file is a bare backbone.
        loaded: Parameters filled from the file.
        expanded: Tables that were copied from the shared one.
        resized: ``'name: from -> to'`` of tables and positions.
        missing: Parameters of the model that keep their initialisation.
        unexpected: Entries of the file that the model has no place for.
    """

    source: str
    format: str
    prefix: str = ''
    others: list[str] = field(default_factory=list)
    ignored: str = ''
    loaded: list[str] = field(default_factory=list)
    expanded: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        where = f' under {self.prefix}' if self.prefix else ''
        lines = [
            f'Pre-trained weights of {self.source} ({self.format} names{where}): {len(self.loaded)} loaded'
        ]
        if self.others:
            lines.append(
                f'  the file has other transformers too, under {", ".join(self.others)}: to take one, give '
                f'model.backbone.init_cfg.prefix={self.others[0]} (tools/export.py: --prefix)'
            )
        if self.ignored:
            lines.append(f'  there is no {self.ignored} in it: it is a bare backbone, and taken as a whole')
        for what in ('expanded', 'resized', 'missing', 'unexpected'):
            names = getattr(self, what)
            if names:
                shown = ', '.join(names[:6]) + (', ...' if len(names) > 6 else '')
                lines.append(f'  {what} ({len(names)}): {shown}')
        return '\n'.join(lines)


def load_pretrained(
    vit: 'MVPViT', checkpoint: str | None, prefix: str | None = None, grid: Grid | None = None
) -> LoadReport:
    """Fill a student from a weight file.

    Args:
        vit: The model; filled in place.
        checkpoint: Path, of a file or of a folder that transformers saved, or http(s) address.
        prefix: Where in the file the backbone lies, such as ``'teacher.'`` or ``'teacher.backbone.'``: what
            its names begin with, keys of nested dicts included. Default None: it is found by itself, in a
            file with several transformers if one lies under ``backbone.``. A bare backbone is taken whatever
            the prefix, and ``'backbone.'`` stands for wherever the only transformer lies.
        grid: Patch grid (rows, columns) at which the file's positions were trained. Default None: as the
            file tells it (see :func:`grid_of_positions`).

    Returns:
        The report, which is logged as well.

    Raises:
        FileNotFoundError: If there is no checkpoint, or none was named.
        ValueError: If the file is no plain weight file; it has several transformers, or none at ``prefix``;
            an entry of the transformer (patch embedding, CLS, positions, blocks) is missing, has another
            shape or is not finite (names the first one); or nothing tells the grid of its positions.
    """
    if not checkpoint:
        raise FileNotFoundError(
            'no pre-trained checkpoint was given: add --cfg-options '
            'model.backbone.init_cfg.checkpoint=FILE_OR_URL, or train from scratch with '
            'model.backbone.init_cfg=None'
        )
    return fill(vit, read_weights(checkpoint, prefix), checkpoint, prefix, grid)


def read_weights(checkpoint: str, prefix: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a weight file by name; no code in it is run.

    Args:
        checkpoint: Path, of a file or of a folder that transformers saved, or http(s) address.
        prefix: As for :func:`load_pretrained`.

    Raises:
        FileNotFoundError: If there is no such file, or it cannot be downloaded.
        ValueError: If it is no plain weight file, or has several networks.
    """
    return read_tensors(local_path(checkpoint), prefix)


def fill(
    vit: 'MVPViT',
    weights: dict[str, Tensor],
    source: str,
    prefix: str | None = None,
    grid: Grid | None = None,
) -> LoadReport:
    """Fill a student from weights that have been read (:func:`load_pretrained` reads them as well).

    Args:
        vit: The model; filled in place.
        weights: Tensors by name.
        source: Where they come from, for messages.
        prefix: As for :func:`load_pretrained`.
        grid: As for :func:`load_pretrained`.

    Returns:
        The report, which is logged as well.

    Raises:
        ValueError: If they do not fit.
    """
    if grid is not None and as_grid(grid) is None:
        raise ValueError(f'init_cfg.grid={grid!r} is no patch grid: expected rows and columns, such as 8,12')
    weights, report = _backbone(weights, source, prefix)
    try:
        fitted = fit_positions(weights, vit, recorded=recorded_grid(weights), given=as_grid(grid))
    except ValueError as error:
        raise ValueError(f'{source} does not fit: {error}') from error
    weights, report.expanded, report.resized = fitted
    own = vit.state_dict()
    for name, value in own.items():
        if name.endswith(INDEX):
            continue
        if name not in weights:
            if _is_optional(name):
                report.missing.append(name)
                continue
            raise ValueError(
                f'{source} does not fit: it has no {name}, which the model needs with shape '
                f'{tuple(value.shape)}'
            )
        if weights[name].shape != value.shape:
            raise ValueError(
                f'{source} does not fit: {name} has shape {tuple(weights[name].shape)} there, and '
                f'{tuple(value.shape)} in the model (another width, patch size or number of classes? '
                'mvp-mm: another --student?)'
            )
        report.loaded.append(name)
    report.unexpected = [name for name in weights if name not in own and not name.endswith(INDEX)]
    deeper = next((name for name in report.unexpected if name.startswith('layers.')), None)
    if deeper is not None:
        raise ValueError(
            f'{source} does not fit: it has {deeper}, for which the model has no place (fewer blocks, '
            'or no layer scale or position bias?)'
        )
    filled = {name: weights[name] for name in report.loaded}
    require_finite(filled, source)
    own.update(filled)
    vit.load_state_dict(own)
    print_log(str(report), logger='current')
    return report


def _is_optional(name: str) -> bool:
    """Norms outside of the blocks and the mask token may start fresh; the transformer may not."""
    return name.startswith(('ln1.', 'ln2.')) or name == 'mask_token'


def named_as_mmpretrain(
    weights: dict[str, Tensor], checkpoint: str, prefix: str | None = None
) -> dict[str, Tensor]:
    """Find the backbone in a file and give its entries mmpretrain's names.

    Args:
        weights: What the file holds.
        checkpoint: Its name, for messages.
        prefix: As for :func:`load_pretrained`.

    Returns:
        The backbone's entries.

    Raises:
        ValueError: If there is no vision transformer in it, or there are several.
    """
    return _backbone(weights, checkpoint, prefix)[0]


def _backbone(
    weights: dict[str, Tensor], checkpoint: str, prefix: str | None
) -> tuple[dict[str, Tensor], LoadReport]:
    """The backbone's entries, and the beginning of a report."""
    found = {
        name[: -len(mark)]: form for name in weights for mark, form in MARKS.items() if name.endswith(mark)
    }
    if not found:
        raise ValueError(
            f'{checkpoint} holds no vision transformer: none of its {len(weights)} entries ends with '
            f'{" or ".join(MARKS)}'
        )
    start = _start(list(found), prefix, checkpoint)
    form = found[start]
    inside = {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}
    if form == 'BEiT':
        inside = {_mmpretrain_name(name): value for name, value in inside.items()}
    elif form == 'transformers':
        inside = names_from_transformers(inside)
        # Its model for masked images keeps the final norm outside of the backbone, beside the predictor.
        outside = start.removesuffix('beit.')
        for kind in ('weight', 'bias'):
            if f'{outside}lm_head.weight' in weights and f'{outside}layernorm.{kind}' in weights:
                inside.setdefault(f'ln1.{kind}', weights[f'{outside}layernorm.{kind}'])
    inside = renamed(inside, str)
    recorded = recorded_grid(weights, start)
    if recorded is not None:
        record_grid(inside, recorded)
    others = [other for other in found if other != start]
    asked = dotted(prefix)
    ignored = '' if start.startswith(asked) or asked == BACKBONE else asked
    return inside, LoadReport(str(checkpoint), form, start, others, ignored)


def _start(found: list[str], prefix: str | None, checkpoint: str) -> str:
    """What the names of the wanted transformer begin with."""
    asked = dotted(prefix)
    if prefix is not None and asked in found:
        return asked
    inside = [start for start in found if asked and start.startswith(asked)]
    if len(inside or found) == 1:
        start = (inside or found)[0]
        if inside or start == '' or asked in ('', BACKBONE):
            return start
        raise ValueError(
            f'{checkpoint} has no transformer under the prefix {asked}: it has one under {start} '
            f'(model.backbone.init_cfg.prefix={start}; tools/export.py: --prefix {start})'
        )
    if not asked and BACKBONE in found:
        return BACKBONE
    raise ValueError(several_networks(checkpoint, inside or found, '' if inside else asked))


def _mmpretrain_name(name: str) -> str:
    if name.startswith('norm.'):
        return name.replace('norm.', 'ln1.', 1)
    if name.startswith('fc_norm.'):
        return name.replace('fc_norm.', 'ln2.', 1)
    for theirs, ours in BEIT_NAMES.items():
        name = name.replace(theirs, ours)
    return name


def local_path(checkpoint: str) -> Path:
    """Where a weight file lies on this machine; one at an address is downloaded first.

    Args:
        checkpoint: Path, or http(s) address.

    Raises:
        FileNotFoundError: If there is no such file, or it cannot be downloaded.
    """
    address = urlparse(str(checkpoint))
    if address.scheme not in ('http', 'https'):
        path = Path(checkpoint).expanduser()
        if path.is_dir():
            found = next((path / name for name in FOLDER_FILES if (path / name).is_file()), None)
            if found is None:
                raise FileNotFoundError(
                    f'{checkpoint} is a folder without {" or ".join(FOLDER_FILES)}: give the weight file'
                )
            return found
        if '://' in str(checkpoint):
            raise FileNotFoundError(f'{checkpoint} cannot be read: give a file, or an http(s) address')
        if not path.is_file():
            raise FileNotFoundError(f'there is no checkpoint {checkpoint}')
        return path
    return _fetch(str(checkpoint))


def _by_torch_hub(address: str) -> Path:
    path = Path(torch.hub.get_dir()) / 'checkpoints' / Path(urlparse(address).path).name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(address, str(path))
        except OSError as error:
            raise FileNotFoundError(
                f'{address} could not be downloaded ({error}). Without a network, copy the file to this '
                'machine and give its path'
            ) from error
    return path


_fetch: Callable[[str], Path] = _by_torch_hub


def register_fetcher(fetch: Callable[[str], Path]) -> None:
    """Let what is at an address be brought to this machine by a function from elsewhere.

    The models know nothing of the zoo; ``import mvp_mm`` hands its downloads to them.

    Args:
        fetch: Takes an http(s) address, gives the path of the file, and raises ``FileNotFoundError`` if it
            cannot be had.
    """
    global _fetch
    _fetch = fetch
