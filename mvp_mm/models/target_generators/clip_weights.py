"""Load the vision branch of an open_clip model without ever running code out of a weight file, and
never with the wrong activation.

QuickGELU leaves no trace in weights, and with the wrong one the network runs but is numerically wrong. So
it must be known: from the tag, from a config file beside the weights, from the metadata of this package's
own files, from OpenAI's published sha256, or from the user.
"""

import difflib
import hashlib
import json
import logging
from pathlib import Path

import open_clip
import torch
from torch import Tensor, nn

from ..tensor_files import first_line, is_torchscript, read_metadata, read_tensors
from .weight_files import require_fit, same_random_weights, warn_of_random_weights

# OpenAI publishes these with its vision transformers; the sha256 is part of each file's address.
OPENAI_SHA256 = {
    '40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af': 'ViT-B-32-quickgelu',
    '5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f': 'ViT-B-16-quickgelu',
    'b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836': 'ViT-L-14-quickgelu',
    '3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02': 'ViT-L-14-336-quickgelu',
}


def load_clip_visual(
    model_name: str,
    pretrained: str | None,
    quick_gelu: bool | None = None,
    cache_dir: str | None = None,
) -> nn.Module:
    """The vision branch of an open_clip model, float32, on the CPU.

    Args:
        model_name: open_clip model name, or path of a model config (``.json``).
        pretrained: Tag, weight file, or None for random weights (the same ones every time).
        quick_gelu: What the user says about a local weight file, or None.
        cache_dir: Where downloads go.

    Returns:
        The vision branch, with its ``preprocess_cfg`` (mean and std on the 0–1 scale).

    Raises:
        ValueError: See :class:`CLIPTargetGenerator`.
        FileNotFoundError: If the weights cannot be had.
    """
    name, config = _model_config(model_name)
    has_quick_gelu = bool(config.get('quick_gelu', False))
    if pretrained is None:
        _require_equal_gelu(name, has_quick_gelu, quick_gelu, 'model.target_generator.quick_gelu')
        warn_of_random_weights(name, 'a tag')
        return _random_visual(name)
    if open_clip.get_pretrained_cfg(name, pretrained):
        _require_equal_gelu(name, has_quick_gelu, quick_gelu, 'model.target_generator.quick_gelu')
        of_tag = bool(open_clip.get_pretrained_cfg(name, pretrained).get('quick_gelu', False))
        _require_equal_gelu(name, has_quick_gelu, of_tag, f'the weights tagged {pretrained!r}')
        return _visual_of_tag(name, pretrained, cache_dir)
    path = Path(pretrained).expanduser()
    if not path.is_file():
        tags = ', '.join(open_clip.list_pretrained_tags_by_model(name)) or 'none'
        raise FileNotFoundError(
            f'pretrained={pretrained!r} is neither a tag of {name} (it has: {tags}) nor an existing '
            'weight file. Give one of these tags, or the path of a file'
        )
    visual = _random_visual(name)
    openai_name = OPENAI_SHA256.get(_sha256(path))
    _load_strictly(visual, _read_weights(path, openai_name), name, path)
    _check_local_gelu(path, name, model_name, has_quick_gelu, quick_gelu, openai_name)
    return visual


def _model_config(model_name: str) -> tuple[str, dict]:
    name = model_name
    if model_name.endswith('.json'):
        path = Path(model_name).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f'there is no open_clip model config {model_name}')
        open_clip.add_model_config(path)
        name = path.stem
    config = open_clip.get_model_config(name)
    if config is None:
        close = difflib.get_close_matches(name, open_clip.list_models(), n=4, cutoff=0.5)
        hint = f'did you mean {", ".join(close)}?' if close else 'see open_clip.list_models().'
        raise ValueError(f'open_clip knows no model {model_name!r}; {hint}')
    vision = config['vision_cfg']
    if isinstance(vision.get('layers'), list | tuple):
        raise ValueError(
            f'{name} has no patch tokens to learn from (its vision branch is a ResNet): use an '
            'open_clip vision transformer such as ViT-B-16-quickgelu'
        )
    return name, config


def _require_equal_gelu(name: str, of_model: bool, wanted: bool | None, who: str) -> None:
    if wanted is None or wanted == of_model:
        return
    twin = name.removesuffix('-quickgelu') if of_model else f'{name}-quickgelu'
    use = (
        f'use model_name={twin!r}'
        if twin in open_clip.list_models()
        else f'set "quick_gelu": {str(wanted).lower()} in its model config'
    )
    raise ValueError(
        f'QuickGELU mismatch: {name} has quick_gelu={of_model}, but {wanted} is what follows from {who}. '
        f'It would run and be numerically wrong; {use}'
    )


def _check_local_gelu(
    path: Path,
    name: str,
    model_name: str,
    has_quick_gelu: bool,
    quick_gelu: bool | None,
    openai_name: str | None,
) -> None:
    known = {}
    if quick_gelu is not None:
        known['model.target_generator.quick_gelu'] = quick_gelu
    if openai_name is not None:
        known[f"OpenAI's published sha256 of {path.name} ({openai_name})"] = True
    said = read_metadata(path).get('quick_gelu')
    if said is not None:
        known[f'the metadata of {path.name}'] = said.lower() == 'true'
    beside = [path.parent / 'open_clip_config.json', path.with_suffix('.json')]
    if model_name.endswith('.json') and Path(model_name).resolve().parent == path.resolve().parent:
        beside.append(Path(model_name))
    for config_file in beside:
        if config_file.is_file():
            config = json.loads(config_file.read_text())
            config = config.get('model_cfg', config)
            known[f'the config file {config_file.name} beside it'] = config.get('quick_gelu', False)
    if not known:
        raise ValueError(
            f'{path} does not tell whether its model was trained with QuickGELU (no config file beside '
            "it, not OpenAI's own file): give model.target_generator.quick_gelu=True (OpenAI, DFN, MetaCLIP "
            'weights) or False (most LAION and DataComp weights)'
        )
    for who, wanted in known.items():
        _require_equal_gelu(name, has_quick_gelu, bool(wanted), who)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _random_visual(name: str) -> nn.Module:
    with same_random_weights():
        return _quietly_created(name).visual


def _quietly_created(name: str, **kwargs) -> nn.Module:
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # open_clip logs "no pretrained weights" to the root logger
    try:
        return open_clip.create_model(name, device='cpu', precision='fp32', **kwargs)
    finally:
        logger.setLevel(level)


def _visual_of_tag(name: str, tag: str, cache_dir: str | None) -> nn.Module:
    try:
        return _quietly_created(name, pretrained=tag, cache_dir=cache_dir).visual
    except (OSError, RuntimeError) as error:
        config = open_clip.get_pretrained_cfg(name, tag)
        sources = [f'{key} {config[key]}' for key in ('hf_hub', 'url') if config.get(key)]
        raise FileNotFoundError(
            f'the weights {tag!r} of {name} could not be had. Without a network, copy the file to this '
            "machine and give model.target_generator.pretrained=FILE (for other files than OpenAI's own also "
            'model.target_generator.quick_gelu=True or False); for a test with random weights give '
            f'model.target_generator.pretrained=None. Tried the local cache, then {" and ".join(sources)}: '
            f'{first_line(error)}.'
        ) from None


def _read_weights(path: Path, openai_name: str | None) -> dict[str, Tensor]:
    if not is_torchscript(path):
        return read_tensors(path)
    if openai_name is None:
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
