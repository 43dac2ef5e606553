"""Read the tensors of a weight file or training checkpoint by name; nothing in the file is run."""

import ast
import collections
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from .bias_tables import Grid
from .inert_pickle import load_inert

# Endings of the patch embedding's name, by which the vision transformers in a file are found.
PATCH_EMBEDDINGS = (
    'patch_embed.projection.weight',  # mmpretrain, this package
    'patch_embed.proj.weight',  # BEiT, timm
    'patch_embeddings.projection.weight',  # transformers
    'patch_embedding.weight',  # transformers' CLIP
    'visual.conv1.weight',  # open_clip
)
# mmpretrain keeps the network in use here, beside a momentum encoder or another teacher.
BACKBONE = 'backbone.'
EXPECTED = 'expected safetensors, or tensors by name saved by torch.save'


def read_checkpoint(path: Path, map_location: Any = 'cpu', mmap: bool = False) -> Any:
    """Read everything plain in a safetensors file or one of ``torch.save``; nothing in it is run.

    That is tensors, containers, numbers and strings (see :func:`load_inert`).
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path} is no file: give a weight file')
    try:
        if path.suffix == '.safetensors':
            tensors = collections.OrderedDict(load_file(path))
            tensors._metadata = {'': {'grid': read_metadata(path).get('grid')}}  # type: ignore[attr-defined]
            return tensors
        other = _other_kind(path)
        if not other:
            try:
                return torch.load(path, weights_only=True, map_location=map_location, mmap=mmap)
            except pickle.UnpicklingError:
                return load_inert(path, map_location=map_location, mmap=mmap)
    except Exception as error:  # damaged bytes make torch and pickle raise almost anything
        raise ValueError(f'{path} is no plain weight file ({_reason(error)}): {EXPECTED}') from error
    raise ValueError(f'{path} is no plain weight file ({other}): {EXPECTED}')


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file; of other files, nothing."""
    if path.suffix != '.safetensors':
        return {}
    with safe_open(path, 'pt') as file:
        return file.metadata() or {}


def read_tensors(path: Path, prefix: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a weight file by name: :func:`tensors_by_name` of :func:`read_checkpoint`."""
    return tensors_by_name(read_checkpoint(path), path, prefix)


def tensors_by_name(content: Any, source: Any, prefix: str | None = None) -> collections.OrderedDict:
    """Find the weights in what :func:`read_checkpoint` returns.

    They lie in the one dict, at any key, that holds a vision transformer; where none does, in
    ``state_dict``, ``model`` or ``module``, or in the one dict that holds a network. ``prefix`` chooses one
    of several, as ``'teacher.'`` of ``{'student': ..., 'teacher': ...}``; tensors' names may follow the key.

    Names are without ``module.`` of DDP and ``_orig_mod.`` of ``torch.compile``, and begin with the dict's
    key only where ``prefix`` does. Where the file tells the patch grid, it is recorded beside them.
    """
    asked = dotted(prefix)
    found = dict(_dicts_of_tensors(content)) if isinstance(content, dict) else {}
    place = _place_of_weights(content, found, source, asked)
    kept = place if _leads_to(asked, place) else ''
    tensors = {name: value for name, value in found[place].items() if isinstance(value, Tensor)}
    tensors = renamed(tensors, lambda name: kept + _unwrapped(name))
    metadata = getattr(found[place], '_metadata', None)
    for name in metadata if isinstance(metadata, dict) else ():
        record_grid(tensors, recorded_grid(found[place], str(name)), kept + _unwrapped(dotted(str(name))))
    _record_grid_of_file(tensors, content)
    return tensors


def dotted(prefix: str | None) -> str:
    """Return a prefix with one dot at its end; empty if there is none."""
    return f'{prefix.rstrip(".")}.' if prefix else ''


def renamed(weights: Mapping[str, Tensor], rename: Callable[[str], str]) -> collections.OrderedDict:
    """Return weights with each name passed through ``rename``, and the same ``_metadata``."""
    others = collections.OrderedDict((rename(str(name)), value) for name, value in weights.items())
    others._metadata = dict(getattr(weights, '_metadata', None) or {})  # type: ignore[attr-defined]
    return others


def recorded_grid(weights: Mapping[str, Tensor], prefix: str = '') -> Grid | None:
    """Return the patch grid that a state dict records beside the versions of the module at ``prefix``."""
    metadata = getattr(weights, '_metadata', None)
    facts = metadata.get(prefix.removesuffix('.')) if isinstance(metadata, dict) else None
    return as_grid(facts.get('grid')) if isinstance(facts, dict) else None


def record_grid(weights: collections.OrderedDict, grid: Grid | None, prefix: str = '') -> None:
    """Record a grid for :func:`recorded_grid` unless there is one; ``weights`` come from :func:`renamed`."""
    if grid is not None:
        weights._metadata.setdefault(prefix.removesuffix('.'), {}).setdefault('grid', grid)  # type: ignore[attr-defined]


def as_grid(value: Any) -> Grid | None:
    """Parse a patch grid: a pair, or text such as ``'8x12'``; None for anything else."""
    if isinstance(value, str):
        value = [int(side) if side.isdecimal() else side for side in value.split('x')]
    if not isinstance(value, tuple | list) or len(value) != 2:
        return None
    rows, cols = value
    return (rows, cols) if all(isinstance(side, int) and side > 0 for side in value) else None


def require_finite(tensors: Mapping[str, Tensor], source: Any) -> None:
    """Raise ValueError for weights with NaN or infinite values."""
    floats = {n: t for n, t in tensors.items() if t.is_floating_point() and t.dtype.itemsize > 1}
    wrong = [name for name, value in floats.items() if not value.isfinite().all()]
    if wrong:
        first = tensors[wrong[0]]
        raise ValueError(
            f'{source} has weights that are not finite: {int((~first.isfinite()).sum())} of the '
            f'{first.numel()} values of {wrong[0]} are NaN or infinite ({len(wrong)} such tensors of '
            f'{len(tensors)}). Its training diverged, or the file is damaged: take an earlier checkpoint'
        )


def several_networks(source: Any, prefixes: list[str], asked: str) -> str:
    """Explain that a file holds several networks, none at the prefix asked for, and how to choose one."""
    shown = ', '.join(prefix or "'' (the top)" for prefix in prefixes)
    none = f', and none under {asked}' if asked not in ('', BACKBONE) else ''
    return (
        f'{source} holds {len(prefixes)} networks, under the prefixes {shown}{none}: choose one with '
        f'model.backbone.init_cfg.prefix={prefixes[-1]} (tools/export.py: --prefix {prefixes[-1]}), or save '
        'the one that is wanted in a file of its own'
    )


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, which is code."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(part.endswith('constants.pkl') for part in archive.namelist())


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, to quote in another one."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip('.')


def first_few(names: Sequence[str]) -> str:
    """List at most six names."""
    return ', '.join(names[:6]) + (', ...' if len(names) > 6 else '')


def _dicts_of_tensors(content: dict, place: str = '', depth: int = 8) -> Iterator[tuple[str, dict]]:
    """Yield dicts that hold tensors, an optimiser's excepted, with the dotted keys that lead there."""
    if any(isinstance(value, Tensor) for value in content.values()):
        yield place, content
    for key, value in content.items():
        if depth and isinstance(value, dict) and not str(key).startswith('optim'):
            yield from _dicts_of_tensors(value, f'{place}{key}.', depth - 1)


def _place_of_weights(content: Any, found: dict[str, dict], source: Any, prefix: str) -> str:
    """Return the key in ``found`` of the weights that are meant."""
    transformers = [p for p, held in found.items() if any(str(n).endswith(PATCH_EMBEDDINGS) for n in held)]
    if {'state_dict.', 'ema_state_dict.'} <= set(transformers):
        transformers.remove('ema_state_dict.')  # MMEngine's, of the weights that were averaged
    usual = ''
    for key in ('state_dict', 'model', 'module'):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content, usual = content[key], f'{usual}{key}.'
    networks = [place for place, tensors in found.items() if any('weight' in str(name) for name in tensors)]
    places = transformers or [place for place in found if place == usual] or networks
    asked = [place for place in places if _leads_to(prefix, place)]
    if not places:
        raise ValueError(f'{source} is no plain weight file (no tensors by name in it): {EXPECTED}')
    if len(places) > 1 and len(asked) != 1:
        raise ValueError(several_networks(source, places, prefix))
    return (asked or places)[0]


def _leads_to(prefix: str, place: str) -> bool:
    """Whether a prefix of names leads to a place, or into it."""
    return bool(prefix and place) and (prefix.startswith(place) or place.startswith(prefix))


def _unwrapped(name: str) -> str:
    return name.removeprefix('module.').removeprefix('_orig_mod.')


def _record_grid_of_file(tensors: collections.OrderedDict, content: dict) -> None:
    """Record the grid of transformers without one, from a file's metadata or MMEngine's config text."""
    ending = PATCH_EMBEDDINGS[0]  # whose configs can be read
    starts = {name.removesuffix(end) for name in tensors for end in PATCH_EMBEDDINGS if name.endswith(end)}
    grid, meta = recorded_grid(tensors), content.get('meta')
    if grid is None and isinstance(meta, dict) and any(f'{start}{ending}' in tensors for start in starts):
        grid = _grid_of_config(meta.get('cfg'))
    for start in starts:
        record_grid(tensors, grid, start)


def _grid_of_config(text: Any) -> Grid | None:
    """Return the patch grid of the backbone in a config's text, which is parsed and not run."""
    with suppress(Exception):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.keyword) and node.arg == 'backbone' and isinstance(node.value, ast.Call):
                given = {keyword.arg: keyword.value for keyword in node.value.keywords}
                size, patch = (ast.literal_eval(given[key]) for key in ('img_size', 'patch_size'))
                sides = (size, size) if isinstance(size, int) else size
                return as_grid(tuple(-(-side // patch) for side in sides))
    return None


def _other_kind(path: Path) -> str:
    """Say what a file is if it is code, or begins neither as a zip archive nor as a pickle of today."""
    with path.open('rb') as file:
        start = file.read(64)
    if not start:
        return 'it is empty'
    if start.startswith((b'PK', b'\x80')):
        return 'it is a TorchScript archive, which is code' if is_torchscript(path) else ''
    line = start.decode(errors='replace').partition('\n')[0].strip()
    if line and line.isprintable() and '\ufffd' not in line:
        return f'it is text that begins {line[:30]!r}'
    return 'it begins neither as a zip archive nor as a pickle'


def _reason(error: BaseException) -> str:
    if isinstance(error, SafetensorError):
        return str(error)
    # The texts of these are about the unpickler's inside ("101", "list index out of range").
    inside = LookupError | TypeError | AttributeError | RecursionError | ImportError | MemoryError
    told = '' if isinstance(error, inside) else f': {first_line(error)}'
    return f'it is damaged, cut off, or no file of torch.save{told}'
