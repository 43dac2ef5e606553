"""Find an open_clip model by its name: built in, a config file, a folder, or a repository of the hub."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
from torch import nn

from ...weights.read import first_line
from .teacher_weights import no_repository, read_json, require_statistics, unknown_model

HUB = 'hf-hub:'
LOCAL = 'local-dir:'
CONFIG_NAME = 'open_clip_config.json'
# open_clip's and the hub's file names of a whole model's weights, best first.
WEIGHT_NAMES = (
    'open_clip_model.safetensors',
    'open_clip_pytorch_model.safetensors',
    'open_clip_pytorch_model.bin',
    'open_clip_pytorch_model.pth',
)
# Only the vision branch is used: the model's own text branch would cost time and memory, and one of
# transformers a download.
NO_TEXT = dict(context_length=1, vocab_size=1, width=8, heads=1, layers=1)


@dataclass(frozen=True)
class CLIPSource:
    """An open_clip model and where it comes from."""

    name: str  # open_clip's, or the file or folder as given
    config: dict[str, Any]  # model_cfg
    preprocess: dict[str, Any] = field(default_factory=dict)  # mean and std of preprocess_cfg, if given
    file: Path | None = None  # config file, unless built in
    folder: Path | None = None  # which brings its weights
    hub: str | None = None  # owner/name of a repository, which brings its weights

    def __post_init__(self) -> None:
        vision = self.config.get('vision_cfg')
        if 'embed_dim' not in self.config or not isinstance(vision, dict):
            raise ValueError(
                f'{self.file or self.name} is no open_clip model with a vision branch: expected embed_dim '
                'and vision_cfg in its config'
            )
        if self.config.get('quick_gelu') and not self.has_quick_gelu:
            raise ValueError(
                f"{self.name} asks for QuickGELU, but its vision branch is timm's "
                f'{vision["timm_model_name"]}, which open_clip builds without: set '
                'vision_cfg.timm_model_name to the _quickgelu_ variant, or "quick_gelu": false'
            )

    @property
    def brings_weights(self) -> bool:
        """Whether the weights come with the model, so that no tag has to name them."""
        return self.folder is not None or self.hub is not None

    @property
    def has_quick_gelu(self) -> bool:
        """Whether the vision branch is built with QuickGELU."""
        return asks_for_quick_gelu(self.config)

    def build(self) -> nn.Module:
        """Build the vision branch with fresh weights, float32, in eval mode, on the default device."""
        vision = dict(self.config['vision_cfg'], timm_model_pretrained=False, output_tokens=False)
        quick_gelu = bool(self.config.get('quick_gelu', False))
        try:
            clip = open_clip.CLIP(self.config['embed_dim'], vision, NO_TEXT, quick_gelu=quick_gelu)
        except Exception as error:  # an unknown config makes open_clip or timm raise anything
            raise ValueError(
                f'open_clip cannot build the vision branch of {self.name}: {first_line(error)}'
            ) from error
        return clip.visual.eval()


def asks_for_quick_gelu(config: dict[str, Any]) -> bool:
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
        file = download_from_hub(repository, CONFIG_NAME, cache_dir)
        return CLIPSource(model_name, *read_config(file), file=file, hub=repository)
    built_in = model_name.replace('/', '-')  # open_clip takes ViT-B/16 for ViT-B-16 too
    config = None if model_name.startswith(LOCAL) else open_clip.get_model_config(built_in)
    if config is not None:
        return CLIPSource(built_in, config)
    path = Path(model_name.removeprefix(LOCAL)).expanduser()
    if model_name.startswith(LOCAL) or path.is_dir():
        file = _config_in(path)
        return CLIPSource(str(path), *read_config(file), file=file, folder=path)
    if path.suffix == '.json':
        if not path.is_file():
            raise FileNotFoundError(f'there is no open_clip model config {model_name}')
        return CLIPSource(path.stem, *read_config(path), file=path)
    raise unknown_model('open_clip', model_name, open_clip.list_models(), CONFIG_NAME)


def _config_in(folder: Path) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f'there is no folder {folder}: expected one with {CONFIG_NAME} and weights')
    if not (folder / CONFIG_NAME).is_file():
        other = ''
        if (folder / 'config.json').is_file():
            other = f'; its config.json is not of open_clip: if it is of timm, give timm:{LOCAL}{folder}'
        raise FileNotFoundError(f'{folder} holds no {CONFIG_NAME}, so it is no open_clip model{other}')
    return folder / CONFIG_NAME


def download_from_hub(repository: str, filename: str | None, cache_dir: str | None) -> Path:
    """Download a file of ``owner/name``, or find it in the cache; None stands for open_clip's weights."""
    download = open_clip.factory.download_pretrained_from_hf
    try:
        return Path(download(repository, filename=filename, cache_dir=cache_dir))
    except (OSError, RuntimeError, ValueError) as error:
        raise no_repository(f'{filename or "the weights"} of {HUB}{repository}', 'FOLDER', error) from None


def read_config(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
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
