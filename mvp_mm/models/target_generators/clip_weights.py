"""Load the vision branch of an open_clip model without ever running code out of a weight file, and
never with the wrong activation or normalisation.

QuickGELU leaves no trace in weights, and with the wrong one the network runs but is numerically wrong. So
it must be known: from the tag, from a config file beside the weights, from the metadata of this package's
own files, from OpenAI's published sha256, or from the user. The mean and std of the images leave none either.
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
from ...weights.read import first_line, is_torchscript, read_metadata, read_tensors
from .clip_source import (
    CONFIG_NAME,
    WEIGHT_NAMES,
    CLIPSource,
    asks_for_quick_gelu,
    build_visual,
    build_visual_without_weights,
    download_from_hub,
    find_clip,
    read_config,
)
from .teacher_weights import (
    require_fit,
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


def load_clip_visual(
    model_name: str,
    pretrained: str | bool | None,
    quick_gelu: bool | None = None,
    cache_dir: str | None = None,
    require: Callable[[nn.Module], object] | None = None,
) -> nn.Module:
    """Load the vision branch of an open_clip model, float32, on the CPU.

    Args:
        model_name: See :class:`CLIPTargetGenerator`.
        pretrained: Likewise; None gives the same random weights every time.
        quick_gelu: What the user says about a local weight file, or None.
        cache_dir: Where downloads go.
        require: Called with the network before its weights are looked for, first on the meta device and
            then with random weights; raises if it cannot serve. Default None.

    Returns:
        The vision branch; its ``preprocess_cfg`` holds mean and std on the 0–1 scale.

    Raises:
        ValueError: See :class:`CLIPTargetGenerator`.
        FileNotFoundError: If the weights cannot be had.
    """
    source = find_clip(str(model_name), cache_dir)
    if require is not None:
        require(build_visual_without_weights(source))
    weights = find_weights(source, pretrained)
    openai_name = OPENAI_SHA256.get(_sha256(weights)) if isinstance(weights, Path) else None
    _check_gelu(source, weights, quick_gelu, openai_name)
    with same_random_weights():
        visual = build_visual(source)
    visual.preprocess_cfg = _statistics(source, weights, openai_name)
    if require is not None:
        require(visual)
    if weights is None:
        warn_of_random_weights(source.name, 'a tag')
        return visual
    if not isinstance(weights, Path):
        weights = _downloaded(source, weights, cache_dir)
    _load_strictly(visual, _read_weights(weights), source.name, weights)
    if source.brings_weights:
        print_log(f'The teacher {source.name} has the weights {weights}', logger='current')
    return visual


def find_weights(source: CLIPSource, pretrained: str | bool | None) -> Path | dict[str, Any] | None:
    """Find the weights of an open_clip model; nothing is downloaded or read.

    Args:
        source: The model.
        pretrained: See :class:`CLIPTargetGenerator`.

    Returns:
        A local file, what open_clip knows of a tag or of the repository, or None for random weights.

    Raises:
        FileNotFoundError: If there is neither such a tag nor such a file.
        ValueError: If a folder holds several weight files.
    """
    if source.brings_weights and pretrained in (None, True, OPENAI):
        return weights_in(source.folder, WEIGHT_NAMES) if source.folder else dict(hf_hub=f'{source.hub}/')
    if pretrained is None:
        return None
    name = str(pretrained)
    if not source.brings_weights and open_clip.get_pretrained_cfg(source.name, name):
        return dict(open_clip.get_pretrained_cfg(source.name, name), tag=name)
    for path in (Path(name).expanduser(), source.folder and source.folder / name):
        if path and path.is_file():
            return path
        if path and path.is_dir():
            return weights_in(path, WEIGHT_NAMES)
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


def _require_equal_gelu(source: CLIPSource, wanted: bool | None, who: str, hub: str = '') -> None:
    of_model = source.has_quick_gelu
    if wanted is None or wanted == of_model:
        return
    name = source.name
    twin = name.removesuffix('-quickgelu') if of_model else f'{name}-quickgelu'
    if source.file is None and twin != name and twin in open_clip.list_models():
        use = f'use model_name={twin!r}'
    elif source.file is None:
        own = f'hf-hub:{hub.rstrip("/")}, whose config comes with its weights, or ' if hub else ''
        use = (
            f'open_clip has no {name} with quick_gelu={wanted}: use model_name={own}a model config (.json) '
            f'of your own with "quick_gelu": {str(wanted).lower()}'
        )
    else:
        use = f'set "quick_gelu": {str(wanted).lower()} in its model config'
    raise ValueError(
        f'QuickGELU mismatch: {name} has quick_gelu={of_model}, but {wanted} is what follows from {who}. '
        f'It would run and be numerically wrong; {use}'
    )


def _check_gelu(
    source: CLIPSource,
    weights: Path | dict[str, Any] | None,
    quick_gelu: bool | None,
    openai_name: str | None,
) -> None:
    _require_equal_gelu(source, quick_gelu, 'model.target_generator.quick_gelu')
    if isinstance(weights, dict) and 'tag' in weights:
        of_tag = bool(weights.get('quick_gelu', False))
        who = f'the weights tagged {weights["tag"]!r}'
        _require_equal_gelu(source, of_tag, who, weights.get('hf_hub', ''))
    if not isinstance(weights, Path):
        return
    known = {}
    if quick_gelu is not None:
        known['model.target_generator.quick_gelu'] = quick_gelu
    if openai_name is not None:
        known[f"OpenAI's published sha256 of {weights.name} ({openai_name})"] = True
    said = read_metadata(weights).get('quick_gelu')
    if said is not None:
        known[f'the metadata of {weights.name}'] = said.lower() == 'true'
    for file, (config, _) in _configs_beside(source, weights).items():
        known[f'the config file {file.name} beside it'] = asks_for_quick_gelu(config)
    if not known:
        raise ValueError(
            f'{weights} does not tell whether its model was trained with QuickGELU (no config file beside '
            "it, not OpenAI's own file): give model.target_generator.quick_gelu=True (OpenAI, DFN, MetaCLIP "
            'weights) or False (most LAION and DataComp weights)'
        )
    for who, wanted in known.items():
        _require_equal_gelu(source, bool(wanted), who)


def _configs_beside(source: CLIPSource, weights: Path) -> dict[Path, tuple[dict, dict]]:
    """The config files in the folder of a weight file that speak of it: ``model_cfg``, ``preprocess_cfg``."""
    files = [weights.parent / CONFIG_NAME, weights.with_suffix('.json')]
    if source.file is not None and source.file.resolve().parent == weights.resolve().parent:
        files.append(source.file)
    return {file: read_config(file) for file in dict.fromkeys(files) if file.is_file()}


def _statistics(
    source: CLIPSource, weights: Path | dict[str, Any] | None, openai_name: str | None
) -> dict[str, Any]:
    """``mean`` and ``std`` of the images that the weights were trained on, 0–1 scale."""
    default = dict(mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD)
    if isinstance(weights, dict) and 'tag' in weights:
        said = weights
    elif openai_name is not None:
        said = {}
    else:
        beside = _configs_beside(source, weights) if isinstance(weights, Path) else {}
        said = next((said for _, said in beside.values() if said), source.preprocess)
        if not said and source.file is None:
            said = _statistics_of_tags(source, weights)
    return {key: tuple(said.get(key) or value) for key, value in default.items()}


def _statistics_of_tags(source: CLIPSource, weights: Path | None) -> dict[str, Any]:
    """What open_clip says of the weights that it lists for a model; of several sets the commonest."""
    tags: dict[tuple, list[str]] = {}
    for tag in open_clip.list_pretrained_tags_by_model(source.name):
        config = open_clip.get_pretrained_cfg(source.name, tag)
        if bool(config.get('quick_gelu', False)) == source.has_quick_gelu:
            tags.setdefault((tuple(config['mean']), tuple(config['std'])), []).append(tag)
    if not tags:
        return {}
    mean, std = max(tags, key=lambda statistics: len(tags[statistics]))
    if len(tags) > 1 and weights is not None:
        warn_of_other_statistics(weights, source.name, (mean, std), tags)
    return dict(mean=mean, std=std)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _downloaded(source: CLIPSource, config: dict[str, Any], cache_dir: str | None) -> Path:
    if source.hub is not None:
        return Path(download_from_hub(source.hub, None, cache_dir))
    try:
        return Path(open_clip.factory.download_pretrained(config, cache_dir=cache_dir))
    except (OSError, RuntimeError, ValueError) as error:
        places = ' and '.join(f'{key} {config[key]}' for key in ('hf_hub', 'url') if config.get(key))
        raise FileNotFoundError(
            f'the weights {config["tag"]!r} of {source.name} could not be had. Without a network, copy the '
            'file to this machine and give model.target_generator.pretrained=FILE (for other files than '
            "OpenAI's own also "
            'model.target_generator.quick_gelu=True or False); for a test with random weights give '
            f'model.target_generator.pretrained=None. Tried the local cache, then {places}: '
            f'{first_line(error)}.'
        ) from None


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


def _load_strictly(visual: nn.Module, weights: dict[str, Tensor], name: str, path: Path) -> None:
    own = visual.state_dict()
    if any(key.startswith('visual.') for key in weights):
        weights = {
            key.removeprefix('visual.'): value for key, value in weights.items() if key.startswith('visual.')
        }
    require_fit(weights, own, path, name, prefix='visual.')
    unexpected = next((key for key in weights if key not in own), None)
    if unexpected is not None:
        raise ValueError(f'{path} does not fit {name}: {name} has no visual.{unexpected}')
    visual.load_state_dict({key: value.float() for key, value in weights.items()})
