"""Find an open_clip model by its name: built in, a config file, a folder, or a repository of the hub."""

import difflib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn

from ...weights.read import first_line
from .channel_statistics import channel_statistics

HUB = 'hf-hub:'
LOCAL = 'local-dir:'
CONFIG_NAME = 'open_clip_config.json'
# The names that open_clip itself and the hub give to the weights of a whole model, best first.
WEIGHT_NAMES = (
    'open_clip_model.safetensors',
    'open_clip_pytorch_model.safetensors',
    'open_clip_pytorch_model.bin',
    'open_clip_pytorch_model.pth',
)
# Only the vision branch is used: a text branch as large as the model's would cost time, memory and, where it
# is one of transformers, a download.
NO_TEXT = dict(context_length=1, vocab_size=1, width=8, heads=1, layers=1)


@dataclass(frozen=True)
class CLIPSource:
    """An open_clip model and where it comes from.

    Args:
        name: open_clip's name, or the file or folder as given; for messages.
        config: Its ``model_cfg``.
        preprocess: Its ``preprocess_cfg``, as far as it has one.
        file: The config file, where the model is no built-in one.
        folder: The folder that holds its weights, where it was named by a folder.
        hub: ``owner/name`` of its repository, where it was named by one.
    """

    name: str
    config: dict[str, Any]
    preprocess: dict[str, Any] = field(default_factory=dict)
    file: Path | None = None
    folder: Path | None = None
    hub: str | None = None

    @property
    def brings_weights(self) -> bool:
        """Whether the weights come with the model, so that no tag has to name them."""
        return self.folder is not None or self.hub is not None

    @property
    def has_quick_gelu(self) -> bool:
        """Whether the vision branch is built with QuickGELU."""
        return asks_for_quick_gelu(self.config)


def asks_for_quick_gelu(config: dict[str, Any]) -> bool:
    """Whether open_clip builds the vision branch of a model config with QuickGELU."""
    trunk = (config.get('vision_cfg') or {}).get('timm_model_name')
    # open_clip passes quick_gelu on to its own networks only.
    return 'quickgelu' in trunk if trunk else bool(config.get('quick_gelu', False))


def find_clip(model_name: str, cache_dir: str | None = None) -> CLIPSource:
    """Find the config of an open_clip model.

    Args:
        model_name: open_clip's name of a built-in model, a model config (``.json``), a folder with
            ``open_clip_config.json`` (also as ``local-dir:PATH``) or ``hf-hub:owner/name``.
        cache_dir: Where the config of a ``hf-hub:`` model is downloaded to. Default None: the hub's cache.

    Returns:
        The model; no weights have been looked for.

    Raises:
        ValueError: If there is no such model, or its config cannot be read or built.
        FileNotFoundError: If there is no such file, folder or repository.
    """
    if model_name in ('', HUB, LOCAL):
        raise ValueError(f'model_name={model_name!r} names no model')
    if model_name.startswith(HUB):
        return _hub_source(model_name.removeprefix(HUB), cache_dir)
    built_in = model_name.replace('/', '-')  # open_clip takes ViT-B/16 for ViT-B-16 too
    config = None if model_name.startswith(LOCAL) else open_clip.get_model_config(built_in)
    if config is not None:
        return CLIPSource(built_in, _with_vision(config, built_in))
    path = Path(model_name.removeprefix(LOCAL)).expanduser()
    if model_name.startswith(LOCAL) or path.is_dir():
        return _folder_source(path)
    if path.suffix == '.json':
        if not path.is_file():
            raise FileNotFoundError(f'there is no open_clip model config {model_name}')
        config, preprocess = read_config(path)
        return CLIPSource(path.stem, _with_vision(config, path), preprocess, file=path)
    close = difflib.get_close_matches(model_name, open_clip.list_models(), n=4, cutoff=0.5)
    hint = f'did you mean {", ".join(close)}?' if close else 'see open_clip.list_models(),'
    raise ValueError(
        f'open_clip knows no model {model_name!r}; {hint} or give a folder with {CONFIG_NAME} or '
        f'{HUB}owner/name'
    )


def _folder_source(folder: Path) -> CLIPSource:
    if not folder.is_dir():
        raise FileNotFoundError(f'there is no folder {folder}: expected one with {CONFIG_NAME} and weights')
    file = folder / CONFIG_NAME
    if not file.is_file():
        other = ''
        if (folder / 'config.json').is_file():
            other = f'; its config.json is not of open_clip: if it is of timm, give timm:{LOCAL}{folder}'
        raise FileNotFoundError(f'{folder} holds no {CONFIG_NAME}, so it is no open_clip model{other}')
    config, preprocess = read_config(file)
    return CLIPSource(str(folder), _with_vision(config, file), preprocess, file=file, folder=folder)


def _hub_source(repository: str, cache_dir: str | None) -> CLIPSource:
    if repository.count('/') != 1 or not all(repository.split('/')):
        raise ValueError(f'{HUB}{repository} is no repository of the hub: expected {HUB}owner/name')
    file = Path(download_from_hub(repository, CONFIG_NAME, cache_dir))
    config, preprocess = read_config(file)
    name = f'{HUB}{repository}'
    return CLIPSource(name, _with_vision(config, name), preprocess, file=file, hub=repository)


def download_from_hub(repository: str, filename: str | None, cache_dir: str | None) -> str:
    """Download a file of a repository, or find it in the cache.

    Args:
        repository: ``owner/name``.
        filename: The file; None for open_clip's weights.
        cache_dir: See :func:`find_clip`.

    Returns:
        The path of the file.

    Raises:
        FileNotFoundError: If it cannot be had.
    """
    try:
        return open_clip.factory.download_pretrained_from_hf(
            repository, filename=filename, cache_dir=cache_dir
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise FileNotFoundError(
            f'{filename or "the weights"} of {HUB}{repository} could not be had. Without a network, copy the '
            'repository to a folder on this machine and give that folder as model_name (mvp-mm pretrain: '
            f'--teacher FOLDER). Tried the local cache, then the hub: {first_line(error)}.'
        ) from None


def read_config(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read ``model_cfg`` and ``preprocess_cfg`` of an open_clip config file.

    Args:
        file: As open_clip pushes it to the hub, or a bare model config, which has no ``preprocess_cfg``.

    Returns:
        The two; the mean and std of the second are three numbers where they are there.

    Raises:
        ValueError: If it is no such file.
    """
    try:
        config = json.loads(file.read_text(encoding='utf-8'))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f'{file} is no JSON: {first_line(error)}') from None
    model = config.get('model_cfg', config) if isinstance(config, dict) else None
    preprocess = (config.get('preprocess_cfg') or {}) if isinstance(config, dict) else None
    if not isinstance(model, dict) or not isinstance(preprocess, dict):
        raise ValueError(f'{file} is no open_clip config: expected a model_cfg (and a preprocess_cfg)')
    given = {key: preprocess[key] for key in ('mean', 'std') if preprocess.get(key) is not None}
    checked = {
        key: channel_statistics(values, f'{file}: preprocess_cfg.{key}', is_std=key == 'std')
        for key, values in given.items()
    }
    return model, checked


def _with_vision(config: dict[str, Any], where: object) -> dict[str, Any]:
    if 'embed_dim' not in config or not isinstance(config.get('vision_cfg'), dict):
        raise ValueError(
            f'{where} is no open_clip model with a vision branch: expected embed_dim and vision_cfg in its '
            'config'
        )
    vision = config['vision_cfg']
    trunk = vision.get('timm_model_name')
    if config.get('quick_gelu') and trunk and 'quickgelu' not in trunk:
        raise ValueError(
            f"{where} asks for QuickGELU, but its vision branch is timm's {trunk}, which open_clip builds "
            'without: set vision_cfg.timm_model_name to the _quickgelu_ variant, or "quick_gelu": false'
        )
    return config


def build_visual(source: CLIPSource) -> nn.Module:
    """Build the vision branch of a model with fresh weights, float32, in eval mode.

    Args:
        source: The model.

    Returns:
        The network, on the current default device.

    Raises:
        ValueError: If open_clip cannot build it.
    """
    vision = dict(source.config['vision_cfg'], timm_model_pretrained=False, output_tokens=False)
    quick_gelu = bool(source.config.get('quick_gelu', False))
    try:
        return open_clip.CLIP(
            source.config['embed_dim'], vision, NO_TEXT, quick_gelu=quick_gelu
        ).visual.eval()
    except Exception as error:  # whatever an unknown config makes open_clip or timm raise
        raise ValueError(
            f'open_clip cannot build the vision branch of {source.name}: {first_line(error)}'
        ) from error


def build_visual_without_weights(source: CLIPSource) -> nn.Module:
    """As :func:`build_visual`, on the meta device: shapes only, at next to no cost."""
    with torch.device('meta'):
        return build_visual(source)
