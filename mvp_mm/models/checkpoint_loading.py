"""Any BEiT-family weight file into an :class:`MVPViT`: one path, with a report.

Sources: this package's and mmpretrain's pre-training checkpoints (whole model or backbone), mmseg's BEiT,
Microsoft's BEiT and BEiT v2, timm's and transformers', as ``.pth`` or safetensors. A table shared by all
blocks becomes one table a block, tables of another patch grid are resized on BEiT's geometric grid, and a
file from which the transformer cannot be filled is refused.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import torch
from mmengine.logging import print_log
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor

from .relative_position import Grid, num_table_rows, resize_table
from .tensor_files import read_tensors
from .transformers_names import names_from_transformers

if TYPE_CHECKING:
    from .mvp_vit import MVPViT

TABLE = 'relative_position_bias_table'
INDEX = 'relative_position_index'
SHARED_TABLE = f'rel_pos_bias.{TABLE}'

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
        loaded: Parameters filled from the file.
        expanded: Tables that were copied from the shared one.
        resized: ``'name: from -> to'`` of tables and positions.
        missing: Parameters of the model that keep their initialisation.
        unexpected: Entries of the file that the model has no place for.
    """

    source: str
    format: str
    loaded: list[str] = field(default_factory=list)
    expanded: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f'Pre-trained weights of {self.source} ({self.format} names): {len(self.loaded)} loaded']
        for what in ('expanded', 'resized', 'missing', 'unexpected'):
            names = getattr(self, what)
            if names:
                shown = ', '.join(names[:6]) + (', ...' if len(names) > 6 else '')
                lines.append(f'  {what} ({len(names)}): {shown}')
        return '\n'.join(lines)


def load_pretrained(vit: 'MVPViT', checkpoint: str | None, prefix: str | None = None) -> LoadReport:
    """Fill a student from a weight file.

    Args:
        vit: The model; filled in place.
        checkpoint: Path, of a file or of a folder that transformers saved, or http(s) address.
        prefix: Where in the file the backbone lies. Default None: it is found by itself; a file that has
            no such prefix but is a backbone is taken all the same.

    Returns:
        The report, which is logged as well.

    Raises:
        FileNotFoundError: If there is no checkpoint, or none was named.
        ValueError: If the file is no plain weight file, or an entry of the transformer (patch embedding,
            CLS, positions, blocks) is missing or has another shape; names the first one.
    """
    if not checkpoint:
        raise FileNotFoundError(
            'no pre-trained checkpoint was given: add --cfg-options '
            'model.backbone.init_cfg.checkpoint=FILE_OR_URL, or train from scratch with '
            'model.backbone.init_cfg=None'
        )
    return fill(vit, read_weights(checkpoint), checkpoint, prefix)


def read_weights(checkpoint: str) -> dict[str, Tensor]:
    """The tensors of a weight file by name; no code in it is run.

    Args:
        checkpoint: Path, of a file or of a folder that transformers saved, or http(s) address.

    Raises:
        FileNotFoundError: If there is no such file, or it cannot be downloaded.
        ValueError: If it is no plain weight file.
    """
    return read_tensors(local_path(checkpoint))


def fill(vit: 'MVPViT', weights: dict[str, Tensor], source: str, prefix: str | None = None) -> LoadReport:
    """Fill a student from weights that have been read (:func:`load_pretrained` reads them as well).

    Args:
        vit: The model; filled in place.
        weights: Tensors by name.
        source: Where they come from, for messages.
        prefix: As for :func:`load_pretrained`.

    Returns:
        The report, which is logged as well.

    Raises:
        ValueError: If they do not fit.
    """
    weights, form = named_as_mmpretrain(weights, source, prefix)
    report = LoadReport(str(source), form)
    weights = fit_positions(weights, vit, report=report)
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
    vit.load_state_dict({**own, **filled})
    print_log(str(report), logger='current')
    return report


def _is_optional(name: str) -> bool:
    """Norms outside of the blocks and the mask token may start fresh; the transformer may not."""
    return name.startswith(('ln1.', 'ln2.')) or name == 'mask_token'


def fit_positions(
    weights: dict[str, Tensor], vit: 'MVPViT', prefix: str = '', report: LoadReport | None = None
) -> dict[str, Tensor]:
    """Expand the shared bias table and resize tables and absolute positions to a model's grid.

    Args:
        weights: mmpretrain names behind ``prefix``; not changed.
        vit: The model that is to take them.
        prefix: What its names start with.
        report: Takes a note of what was done.

    Returns:
        The weights, with tables that fit where the model has them.
    """
    weights = dict(weights)
    shared = weights.get(prefix + SHARED_TABLE)
    index = weights.get(f'{prefix}rel_pos_bias.{INDEX}')
    own = vit.state_dict()
    tables = [name for name in own if name.endswith(TABLE)]
    if shared is not None and SHARED_TABLE not in own and tables:
        del weights[prefix + SHARED_TABLE]
        weights.pop(f'{prefix}rel_pos_bias.{INDEX}', None)
        for name in tables:
            weights[prefix + name] = shared.clone()
            weights.pop(prefix + name.replace(TABLE, INDEX), None)
            if report is not None:
                report.expanded.append(name)
    for name in tables:
        table = weights.get(prefix + name)
        if table is None or table.shape == own[name].shape or table.shape[1] != own[name].shape[1]:
            continue
        own_index = weights.pop(prefix + name.replace(TABLE, INDEX), index)
        source = grid_of_table(table, own_index, prefix + name)
        weights[prefix + name] = resize_table(table, source, vit.window)
        if report is not None:
            report.resized.append(f'{name}: {_times(source)} -> {_times(vit.window)}')
    positions = weights.get(f'{prefix}pos_embed')
    if vit.pos_embed is not None and positions is not None and positions.shape[1] != vit.pos_embed.shape[1]:
        extra = vit.num_extra_tokens
        side = math.isqrt(positions.shape[1] - extra)
        weights[f'{prefix}pos_embed'] = resize_pos_embed(
            positions, (side, side), vit.window, vit.interpolate_mode, extra
        )
        if report is not None:
            report.resized.append(f'pos_embed: {side}x{side} -> {_times(vit.window)}')
    return weights


def _times(grid: Grid) -> str:
    return f'{grid[0]}x{grid[1]}'


def grid_of_table(table: Tensor, index: Tensor | None, name: str) -> Grid:
    """Patch grid of a table: square, or read off the index buffer beside it."""
    side = (math.isqrt(table.shape[0] - 3) + 1) // 2
    square = index is None or index.shape[0] == side * side + 1
    if square and num_table_rows((side, side)) == table.shape[0]:
        return side, side
    patches = 0 if index is None else index.shape[0] - 1
    for cols in range(1, patches):
        rows, rest = divmod(patches, cols)
        if rest or num_table_rows((rows, cols)) != table.shape[0]:
            continue
        # Patches one row of the grid apart are 2 * cols - 1 rows of the table apart.
        if index[1, 1] - index[1, 1 + cols] == 2 * cols - 1:
            return rows, cols
    raise ValueError(f'{name} has {table.shape[0]} rows, of which no patch grid can be told')


def named_as_mmpretrain(
    weights: dict[str, Tensor], checkpoint: str, prefix: str | None = None
) -> tuple[dict[str, Tensor], str]:
    """Find the backbone in a file and give its entries mmpretrain's names.

    Args:
        weights: What the file holds.
        checkpoint: Its name, for messages.
        prefix: As for :func:`load_pretrained`.

    Returns:
        The backbone's entries, and whose names the file has (see :class:`LoadReport`).

    Raises:
        ValueError: If there is no vision transformer in it.
    """
    found = [
        (name[: -len(mark)], form) for name in weights for mark, form in MARKS.items() if name.endswith(mark)
    ]
    if not found:
        raise ValueError(
            f'{checkpoint} holds no vision transformer: none of its {len(weights)} entries ends with '
            f'{" or ".join(MARKS)}'
        )
    asked = [pair for pair in found if pair[0] == prefix]
    start, form = (asked or sorted(found, key=lambda pair: len(pair[0])))[0]
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
    return inside, form


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
