"""Load the vision branch of an open_clip model, without running code from a weight file, and never with
the wrong activation or normalisation.

Weights do not show whether they were trained with QuickGELU, and with the wrong activation the network runs
but is numerically wrong. So it must be known: from the tag, a config file beside the weights, the metadata
of this package's own files, OpenAI's published sha256, or the user. Likewise mean and std of the images.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ...weights.locate import weights_in
from ...weights.read import is_torchscript, read_metadata, read_tensors
from .clip_source import (
    CONFIG_NAME,
    WEIGHT_NAMES,
    CLIPSource,
    asks_for_quick_gelu,
    download_from_hub,
    find_clip,
    read_config,
)
from .teacher_weights import (
    Statistics,
    by_statistics,
    fill_strictly,
    local_weights,
    no_weights,
    same_random_weights,
    warn_of_other_statistics,
    warn_of_random_weights,
)

OPENAI = 'openai'  # the default tag, paper §3.3.1
# OpenAI publishes these with its vision transformers; the sha256 is part of each file's address.
OPENAI_SHA256 = {
    '40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af': 'ViT-B-32-quickgelu',
    '5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f': 'ViT-B-16-quickgelu',
    'b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836': 'ViT-L-14-quickgelu',
    '3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02': 'ViT-L-14-336-quickgelu',
}
Config = dict[str, Any]


def load_clip_visual(
    model_name: str,
    pretrained: str | bool | None,
    quick_gelu: bool | None = None,
    cache_dir: str | None = None,
    require: Callable[[nn.Module], object] | None = None,
) -> tuple[nn.Module, Statistics]:
    """Load the vision branch of an open_clip model, float32, on the CPU; also return mean and std.

    Arguments and errors are those of :class:`CLIPTargetGenerator`. ``require`` is called with the network
    before any download, on the meta device and with random weights, and raises if it cannot serve.
    """
    source = find_clip(str(model_name), cache_dir)
    if require is not None:
        with torch.device('meta'):
            visual = source.build()
        require(visual)
    weights = find_weights(source, pretrained)
    openai_name = OPENAI_SHA256.get(_sha256(weights)) if isinstance(weights, Path) else None
    _require_activation(source, weights, quick_gelu, openai_name)
    with same_random_weights():
        visual = source.build()
    statistics = _statistics(source, weights, openai_name)
    if require is not None:
        require(visual)
    if weights is None:
        warn_of_random_weights(source.name, 'a tag')
        return visual, statistics
    path = weights if isinstance(weights, Path) else _downloaded(source, weights, cache_dir)
    prefix = 'visual.'
    tensors = _read_weights(path)
    if any(key.startswith(prefix) for key in tensors):
        tensors = {
            key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
        }
    fill_strictly(visual, tensors, path, source.name, prefix)
    if source.brings_weights:
        print_log(f'The teacher {source.name} has the weights {path}', logger='current')
    return visual, statistics


def find_weights(source: CLIPSource, pretrained: str | bool | None) -> Path | Config | None:
    """Find weights without a download: a local file, open_clip's entry of a tag or repository, or None."""
    if source.brings_weights and pretrained in (None, True, OPENAI):
        return weights_in(source.folder, WEIGHT_NAMES) if source.folder else dict(hf_hub=f'{source.hub}/')
    if pretrained is None:
        return None
    name = str(pretrained)
    if not source.brings_weights and (entry := open_clip.get_pretrained_cfg(source.name, name)):
        return dict(entry, tag=name)
    if path := local_weights(name, WEIGHT_NAMES, source.folder):
        return path
    if source.brings_weights:
        raise FileNotFoundError(
            f'pretrained={pretrained!r} is no existing weight file. The weights of {source.name} come with '
            'it: leave pretrained out, or give the path of a file'
        )
    tags = ', '.join(open_clip.list_pretrained_tags_by_model(source.name)) or 'none'
    raise FileNotFoundError(
        f'pretrained={pretrained!r} is neither a tag of {source.name} (it has: {tags}) nor an existing '
        'weight file. Give one of these tags, or the path of a file'
    )


def _require_activation(
    source: CLIPSource, weights: Path | Config | None, quick_gelu: bool | None, openai_name: str | None
) -> None:
    """Require that the model has the activation its weights were trained with."""
    known: dict[str, bool] = {}
    if quick_gelu is not None:
        known['model.target_generator.quick_gelu'] = bool(quick_gelu)
    hub = ''
    if isinstance(weights, dict) and 'tag' in weights:
        known[f'the weights tagged {weights["tag"]!r}'] = bool(weights.get('quick_gelu', False))
        hub = weights.get('hf_hub') or ''
    elif isinstance(weights, Path):
        if openai_name is not None:
            known[f"OpenAI's published sha256 of {weights.name} ({openai_name})"] = True
        if said := read_metadata(weights).get('quick_gelu'):
            known[f'the metadata of {weights.name}'] = said.lower() == 'true'
        for file, (config, _) in _configs_beside(source, weights).items():
            known[f'the config file {file.name} beside it'] = asks_for_quick_gelu(config)
        if not known:
            raise ValueError(
                f'{weights} does not tell whether its model was trained with QuickGELU (no config file '
                "beside it, not OpenAI's own file): give model.target_generator.quick_gelu=True (OpenAI, "
                'DFN, MetaCLIP weights) or False (most LAION and DataComp weights)'
            )
    for who, wanted in known.items():
        if wanted != source.has_quick_gelu:
            raise ValueError(
                f'QuickGELU mismatch: {source.name} has quick_gelu={not wanted}, but {wanted} is what '
                f'follows from {who}. It would run and be numerically wrong; '
                + _other_model(source, wanted, hub)
            )


def _other_model(source: CLIPSource, quick_gelu: bool, hub: str) -> str:
    """Advise how to get a model with the other activation."""
    setting = f'"quick_gelu": {str(quick_gelu).lower()}'
    if source.file is not None:
        return f'set {setting} in its model config'
    twin = f'{source.name}-quickgelu' if quick_gelu else source.name.removesuffix('-quickgelu')
    if twin != source.name and twin in open_clip.list_models():
        return f'use model_name={twin!r}'
    own = f'hf-hub:{hub.rstrip("/")}, whose config comes with its weights, or ' if hub else ''
    return (
        f'open_clip has no {source.name} with quick_gelu={quick_gelu}: use model_name={own}a model config '
        f'(.json) of your own with {setting}'
    )


def _configs_beside(source: CLIPSource, weights: Path) -> dict[Path, tuple[Config, Config]]:
    """Read the config files of a weight file's folder that describe it: ``{file: (model, preprocess)}``."""
    files = [weights.parent / CONFIG_NAME, weights.with_suffix('.json')]
    if source.file is not None and source.file.resolve().parent == weights.resolve().parent:
        files.append(source.file)
    return {file: read_config(file) for file in dict.fromkeys(files) if file.is_file()}


def _statistics(source: CLIPSource, weights: Path | Config | None, openai_name: str | None) -> Statistics:
    """Find mean and std of the images that the weights were trained on, 0–1 scale."""
    known: Config = {}
    if isinstance(weights, dict) and 'tag' in weights:
        known = weights
    elif openai_name is None:
        beside = _configs_beside(source, weights) if isinstance(weights, Path) else {}
        known = next((preprocess for _, preprocess in beside.values() if preprocess), source.preprocess)
        if not known and source.file is None:
            known = _statistics_of_tags(source, weights)
    mean = known.get('mean') or open_clip.OPENAI_DATASET_MEAN
    return tuple(mean), tuple(known.get('std') or open_clip.OPENAI_DATASET_STD)


def _statistics_of_tags(source: CLIPSource, weights: Path | Config | None) -> Config:
    """Take the commonest mean and std of the weights that open_clip lists for a model."""
    configs = {
        tag: open_clip.get_pretrained_cfg(source.name, tag)
        for tag in open_clip.list_pretrained_tags_by_model(source.name)
    }
    tags = by_statistics(
        {
            tag: config
            for tag, config in configs.items()
            if bool(config.get('quick_gelu', False)) == source.has_quick_gelu
        }
    )
    if not tags:
        return {}
    mean, std = taken = max(tags, key=lambda statistics: len(tags[statistics]))
    if isinstance(weights, Path):
        warn_of_other_statistics(weights, source.name, taken, tags)
    return dict(mean=mean, std=std)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _downloaded(source: CLIPSource, config: Config, cache_dir: str | None) -> Path:
    if source.hub is not None:
        return download_from_hub(source.hub, None, cache_dir)
    try:
        return Path(open_clip.factory.download_pretrained(config, cache_dir=cache_dir))
    except (OSError, RuntimeError, ValueError) as error:
        places = ' and '.join(f'{key} {config[key]}' for key in ('hf_hub', 'url') if config.get(key))
        option = " (unless it is OpenAI's own also model.target_generator.quick_gelu=True or False)"
        raise no_weights(f'{config["tag"]!r} of {source.name}', option, places, error) from None


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not is_torchscript(path):
        return read_tensors(path)
    if _sha256(path) not in OPENAI_SHA256:
        raise ValueError(
            f"{path} is a TorchScript archive, which is code, and its sha256 is none of OpenAI's "
            'published ones: it is not loaded. Download it again, or convert it to safetensors on '
            'a machine where you trust it'
        )
    return torch.jit.load(path, map_location='cpu').state_dict()
