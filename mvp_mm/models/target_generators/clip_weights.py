"""Find an open_clip model and load its towers, without running code from a weight file.

Weights do not show whether they were trained with QuickGELU, and with the wrong activation the network runs
but is numerically wrong. So it must be known: from the tag, a config file beside the weights, the metadata
of this package's own files, OpenAI's published sha256, or the user. Likewise mean and std of the images.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ...text.tokenize import find_tokenizer
from ...weights.locate import weights_in
from ...weights.read import is_torchscript, read_metadata, read_tensors
from ..clip.clip import MAX_LOGIT_SCALE
from ..clip.text_encoder import NO_VISION, TextEncoder
from ..speaking.text_tower import TextTower
from .base import network_errors
from .teacher_weights import (
    HUB,
    LOCAL,
    Statistics,
    fill_strictly,
    local_weights,
    no_repository,
    no_weights,
    random_weights,
    read_json,
    require_statistics,
    same_random_weights,
    unknown_model,
    warn_of_other_statistics,
)

CONFIG_NAME = 'open_clip_config.json'
# open_clip's and the hub's file names of a whole model's weights, best first.
WEIGHT_NAMES = (
    'open_clip_model.safetensors',
    'open_clip_pytorch_model.safetensors',
    'open_clip_pytorch_model.bin',
    'open_clip_pytorch_model.pth',
)
VISUAL = 'visual.'  # the vision branch in a whole model's state dict
TEXT = 'text.'  # the text branch in that of a model that open_clip calls custom
# The model's own text branch, which is not used, would cost memory, and one of transformers a download.
NO_TEXT = dict(context_length=1, vocab_size=1, width=8, heads=1, layers=1)
OPENAI = 'openai'  # the default tag, paper §3.3.1
# OpenAI publishes these with its vision transformers; the sha256 is part of each file's address.
OPENAI_SHA256 = {
    '40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af': 'ViT-B-32-quickgelu',
    '5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f': 'ViT-B-16-quickgelu',
    'b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836': 'ViT-L-14-quickgelu',
    '3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02': 'ViT-L-14-336-quickgelu',
}
OPENAI_STATISTICS = dict(mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD)
Config = dict[str, Any]
PARTS = ('vision_cfg', 'text_cfg', 'multimodal_cfg', 'preprocess_cfg')  # of a CLIP's or CoCa's config


@dataclass(frozen=True)
class CLIPSource:
    """An open_clip model and where it comes from."""

    name: str  # open_clip's, or the file or folder as given
    config: Config  # model_cfg
    preprocess: Config = field(default_factory=dict)  # mean and std of preprocess_cfg, if given
    file: Path | None = None  # config file, unless built in
    origin: Path | str | None = None  # folder, or owner/name on the hub, that brings its weights

    def __post_init__(self) -> None:
        what, vision = self.file or self.name, self.config.get('vision_cfg')
        if others := [key for key in self.config if key.endswith('_cfg') and key not in PARTS]:
            raise ValueError(f'{what} is no image-text model of two towers: its config has {others[0]}')
        if 'embed_dim' not in self.config or not isinstance(vision, dict):
            expected = 'expected embed_dim and vision_cfg in its config'
            raise ValueError(f'{what} is no open_clip model with a vision branch: {expected}')
        if self.config.get('quick_gelu') and not _has_quick_gelu(self.config):
            raise ValueError(
                f"{self.name} asks for QuickGELU, but its vision branch is timm's "
                f'{vision["timm_model_name"]}, which open_clip builds without: set '
                'vision_cfg.timm_model_name to the _quickgelu_ variant, or "quick_gelu": false'
            )

    def build(self) -> nn.Module:
        """Build the vision branch with fresh weights, float32, in eval mode, on the default device."""
        vision = dict(self.config['vision_cfg'], timm_model_pretrained=False, output_tokens=False)
        quick_gelu = bool(self.config.get('quick_gelu', False))
        with network_errors(f'open_clip cannot build the vision branch of {self.name}: '):
            clip = open_clip.CLIP(self.config['embed_dim'], vision, NO_TEXT, quick_gelu=quick_gelu)
        return clip.visual.eval()


def _has_quick_gelu(config: Config) -> bool:
    """Return whether open_clip builds the vision branch of a ``model_cfg`` with QuickGELU."""
    trunk = (config.get('vision_cfg') or {}).get('timm_model_name')
    # open_clip passes quick_gelu on to its own networks only.
    return 'quickgelu' in trunk if trunk else bool(config.get('quick_gelu', False))


def find_clip(model_name: str, cache_dir: str | None = None) -> CLIPSource:
    """Find the config of an open_clip model; arguments and errors as for :class:`CLIPTargetGenerator`."""
    if model_name in ('', HUB, LOCAL):
        raise ValueError(f'model_name={model_name!r} names no model')
    if model_name.startswith(HUB):
        repository = model_name.removeprefix(HUB)
        if repository.count('/') != 1 or not all(repository.split('/')):
            raise ValueError(f'{model_name} is no repository of the hub: expected {HUB}owner/name')
        file = _download_from_hub(repository, CONFIG_NAME, cache_dir)
        return CLIPSource(model_name, *_read_config(file), file=file, origin=repository)
    built_in = model_name.replace('/', '-')  # open_clip takes ViT-B/16 for ViT-B-16 too
    is_folder = model_name.startswith(LOCAL)
    if not is_folder and (config := open_clip.get_model_config(built_in)) is not None:
        return CLIPSource(built_in, config)
    path = Path(model_name.removeprefix(LOCAL)).expanduser()
    if is_folder or path.is_dir():
        file = path / CONFIG_NAME
        if not path.is_dir():
            raise FileNotFoundError(f'there is no folder {path}: expected one with {CONFIG_NAME} and weights')
        if not file.is_file():
            advice = f'for a model of timm give timm:{LOCAL}{path}'
            raise FileNotFoundError(f'{path} holds no {CONFIG_NAME}, so it is no open_clip model; {advice}')
        return CLIPSource(str(path), *_read_config(file), file=file, origin=path)
    if path.suffix == '.json':
        if not path.is_file():
            raise FileNotFoundError(f'there is no open_clip model config {model_name}')
        return CLIPSource(path.stem, *_read_config(path), file=path)
    raise unknown_model('open_clip', model_name, open_clip.list_models(), CONFIG_NAME)


def _read_config(file: Path) -> tuple[Config, Config]:
    """Read ``model_cfg``, and ``mean`` and ``std`` of ``preprocess_cfg`` if given, of an open_clip config."""
    config = read_json(file)
    model = config.get('model_cfg', config) if isinstance(config, dict) else None
    preprocess = (config.get('preprocess_cfg') or {}) if isinstance(config, dict) else None
    if not isinstance(model, dict) or not isinstance(preprocess, dict):
        raise ValueError(f'{file} is no open_clip config: expected a model_cfg (and a preprocess_cfg)')
    return model, {
        key: require_statistics(preprocess[key], f'{file}: preprocess_cfg.{key}')
        for key in ('mean', 'std')
        if preprocess.get(key) is not None
    }


def load_clip_visual(
    source: CLIPSource, pretrained: str | bool | None, quick_gelu: bool | None, cache_dir: str | None
) -> tuple[nn.Module, Statistics]:
    """Load the vision branch, float32, on the CPU, and mean and std; arguments as of the generator."""
    weights = find_weights(source, pretrained)
    facts = _facts(source, weights, quick_gelu)
    _require_activation(source, weights, facts)
    statistics = _statistics(source, weights, facts)
    path, tensors = read_clip(source, pretrained, cache_dir)
    if path is None:
        with random_weights(source.name, 'a tag'):
            return source.build(), statistics
    with same_random_weights():
        visual = source.build()
    if not any(key.startswith(VISUAL) for key in tensors):
        tensors = {f'{VISUAL}{key}': value for key, value in tensors.items()}
    own = {f'{VISUAL}{key}': value for key, value in visual.state_dict().items()}
    fill_strictly(own, tensors, path, source.name, required=VISUAL)
    if source.origin is not None:
        print_log(f'The teacher {source.name} has the weights {path}', logger='current')
    return visual, statistics


def load_clip_text(source: CLIPSource, pretrained: str | bool | None, cache_dir: str | None) -> TextTower:
    """Load the text tower and the logit scale, float32, on the CPU; arguments as of the generator.

    Raises:
        ValueError: If the model or its file has no text tower that :class:`TextEncoder` can run.
    """
    text = dict(source.config.get('text_cfg') or {})
    cannot = f'{source.name} cannot speak: '
    if not text or 'hf_model_name' in text:
        kind = "is transformers' " + text['hf_model_name'] if text else 'is missing'
        raise ValueError(f"{cannot}its text tower {kind}; expected open_clip's own, as in ViT-B-16")
    custom = bool(source.config.get('custom_text'))
    build = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    path, tensors = read_clip(source, pretrained, cache_dir)
    with same_random_weights():
        clip: Any = build(
            source.config['embed_dim'], NO_VISION, text, quick_gelu=bool(source.config.get('quick_gelu'))
        )
    if path is not None:
        if custom:
            tensors = open_clip.model.convert_to_custom_text_state_dict(tensors)
        own = {name: value for name, value in clip.state_dict().items() if not name.startswith(VISUAL)}
        if not any(name in tensors for name in own):
            raise ValueError(f'{cannot}{path} holds its vision tower only: give the file of the whole model')
        fill_strictly(own, tensors, path, source.name, required=TEXT if custom else ())
    scale = min(float(clip.logit_scale.detach().exp()), MAX_LOGIT_SCALE)
    with network_errors(cannot):
        encoder = TextEncoder(clip)
    identity = None if path is None else file_sha256(path)
    place = f'{LOCAL}{source.origin}' if isinstance(source.origin, Path) else source.name
    if source.origin is None and source.file is not None:  # a model config of the user's own
        place = str(source.file)
    return TextTower(encoder, find_tokenizer(place), scale, identity, source.name, settings=source.config)


def read_clip(
    source: CLIPSource, pretrained: str | bool | None, cache_dir: str | None
) -> tuple[Path | None, dict[str, Tensor]]:
    """Read a model's weight file, downloading it if necessary; no code in it is run. None: no weights."""
    path = clip_file(source, pretrained, cache_dir)
    if path is None:
        return None, {}
    if not is_torchscript(path):
        return path, dict(read_tensors(path))
    if file_sha256(path) not in OPENAI_SHA256:
        raise ValueError(
            f"{path} is a TorchScript archive, which is code, and its sha256 is none of OpenAI's published "
            'ones: download it again, or convert it to safetensors on a machine where you trust it'
        )
    return path, torch.jit.load(path, map_location='cpu').state_dict()


def clip_file(source: CLIPSource, pretrained: str | bool | None, cache_dir: str | None) -> Path | None:
    """Return the path of a model's weight file, downloading it if necessary; None for random weights."""
    weights = find_weights(source, pretrained)
    return weights if isinstance(weights, Path | None) else _downloaded(source, weights, cache_dir)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal digits, computed once for each state of the file."""
    about = path.stat()
    return _digest(path, about.st_mtime_ns, about.st_size)


@cache
def _digest(path: Path, *state: int) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def find_weights(source: CLIPSource, pretrained: str | bool | None) -> Path | Config | None:
    """Find weights: a local file, a downloaded address, open_clip's entry of a tag or repository, or None."""
    origin = source.origin
    if origin is not None and pretrained in (None, True, OPENAI):
        return weights_in(origin, WEIGHT_NAMES) if isinstance(origin, Path) else dict(hf_hub=f'{origin}/')
    if pretrained is None:
        return None
    name = str(pretrained)
    if origin is None and (entry := open_clip.get_pretrained_cfg(source.name, name)):
        return dict(entry, tag=name)
    if path := local_weights(name, WEIGHT_NAMES, origin if isinstance(origin, Path) else None):
        return path
    if origin is not None:
        advice = f'Those of {source.name} come with it: leave pretrained out, or give the path of a file'
        raise FileNotFoundError(f'pretrained={pretrained!r} is no existing weight file. {advice}')
    tags = ', '.join(open_clip.list_pretrained_tags_by_model(source.name)) or 'none'
    raise FileNotFoundError(
        f'pretrained={pretrained!r} is neither a tag of {source.name} (it has: {tags}) nor an existing '
        'weight file. Give one of these tags, or the path of a file'
    )


def _facts(source: CLIPSource, weights: Path | Config | None, quick_gelu: bool | None) -> dict[str, Config]:
    """Collect ``quick_gelu`` and, if told, ``mean`` and ``std`` of the weights, by who tells them."""
    facts: dict[str, Config] = {}
    if quick_gelu is not None:
        facts['model.target_generator.quick_gelu'] = dict(quick_gelu=bool(quick_gelu))
    if isinstance(weights, dict) and 'tag' in weights:
        facts[f'the weights tagged {weights["tag"]!r}'] = OPENAI_STATISTICS | weights
    elif isinstance(weights, Path):
        if name := OPENAI_SHA256.get(file_sha256(weights)):
            who = f"OpenAI's published sha256 of {weights.name} ({name})"
            facts[who] = dict(OPENAI_STATISTICS, quick_gelu=True)
        if said := read_metadata(weights).get('quick_gelu'):
            facts[f'the metadata of {weights.name}'] = dict(quick_gelu=said.lower() == 'true')
        files = [weights.parent / CONFIG_NAME, weights.with_suffix('.json')]
        if source.file is not None and source.file.resolve().parent == weights.resolve().parent:
            files.append(source.file)
        for file in filter(Path.is_file, files):
            model, preprocess = _read_config(file)
            who = f'the config file {file.name} beside it'
            facts[who] = dict(preprocess, quick_gelu=_has_quick_gelu(model))
        if not facts:
            raise ValueError(
                f'{weights} does not tell whether its model was trained with QuickGELU (no config file '
                "beside it, not OpenAI's own file): give model.target_generator.quick_gelu=True (OpenAI, "
                'DFN, MetaCLIP weights) or False (most LAION and DataComp weights)'
            )
    return facts


def _require_activation(source: CLIPSource, weights: Path | Config | None, facts: dict[str, Config]) -> None:
    """Require that the model has the activation its weights were trained with."""
    wanted = not _has_quick_gelu(source.config)
    who = next((who for who, told in facts.items() if bool(told.get('quick_gelu')) == wanted), None)
    if who is None:
        return
    setting = f'"quick_gelu": {str(wanted).lower()}'
    twin = f'{source.name}-quickgelu' if wanted else source.name.removesuffix('-quickgelu')
    repository = (weights.get('hf_hub') or '').rstrip('/') if isinstance(weights, dict) else ''
    if source.file is not None:
        advice = f'set {setting} in its model config'
    elif twin != source.name and twin in open_clip.list_models():
        advice = f'use model_name={twin!r}'
    else:
        own = f'{HUB}{repository}, whose config comes with its weights, or ' if repository else ''
        advice = f'use model_name={own}a model config (.json) of your own with {setting}'
    raise ValueError(
        f'QuickGELU mismatch: {source.name} has quick_gelu={not wanted}, but {wanted} is what follows from '
        f'{who}. It would run and be numerically wrong; {advice}'
    )


def _statistics(source: CLIPSource, weights: Path | Config | None, facts: dict[str, Config]) -> Statistics:
    """Find mean and std of the images that the weights were trained on, 0–1 scale."""
    told = [*facts.values(), source.preprocess]
    known = next((facts for facts in told if 'mean' in facts or 'std' in facts), {})
    if known or source.file is not None:
        known = OPENAI_STATISTICS | known
        return tuple(known['mean']), tuple(known['std'])
    # The commonest of the weights that open_clip lists for the model.
    tags = open_clip.list_pretrained_tags_by_model(source.name)
    listed = {tag: open_clip.get_pretrained_cfg(source.name, tag) for tag in tags}
    wanted = _has_quick_gelu(source.config)
    configs = {tag: config for tag, config in listed.items() if bool(config.get('quick_gelu')) == wanted}
    counts = Counter((tuple(config['mean']), tuple(config['std'])) for config in configs.values())
    taken = max(counts, key=counts.__getitem__, default=tuple(OPENAI_STATISTICS.values()))
    if isinstance(weights, Path):
        warn_of_other_statistics(weights, source.name, taken, configs)
    return taken


def _downloaded(source: CLIPSource, config: Config, cache_dir: str | None) -> Path:
    if isinstance(source.origin, str):
        return _download_from_hub(source.origin, None, cache_dir)
    try:
        return Path(open_clip.factory.download_pretrained(config, cache_dir=cache_dir))
    except (OSError, RuntimeError, ValueError) as error:
        places = ' and '.join(f'{key} {config[key]}' for key in ('hf_hub', 'url') if config.get(key))
        option = " (unless it is OpenAI's own also model.target_generator.quick_gelu=True or False)"
        raise no_weights(f'{config["tag"]!r} of {source.name}', option, places, error) from None


def _download_from_hub(repository: str, filename: str | None, cache_dir: str | None) -> Path:
    """Download a file of ``owner/name``, or find it in the cache; None stands for open_clip's weights."""
    download = open_clip.factory.download_pretrained_from_hf
    try:
        return Path(download(repository, filename=filename, cache_dir=cache_dir))
    except (OSError, RuntimeError, ValueError) as error:
        raise no_repository(f'{filename or "the weights"} of {HUB}{repository}', 'FOLDER', error) from None
