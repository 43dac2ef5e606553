"""Models by name: a name for every config that the package ships."""

import difflib
import fnmatch
from pathlib import Path

from mmengine.config import Config
from torch import nn

from ..models.from_config import build_from_config
from ..stack import quiet_stack_noise

CONFIGS = Path(__file__).parents[1] / '.mim' / 'configs'


def _configs() -> dict[str, Path]:
    """Names, ``<folder>_<file>``, and config files."""
    files = sorted(path for path in CONFIGS.glob('*/*.py') if path.parent.name != '_base_')
    return {f'{path.parent.name}_{path.stem}': path for path in files}


def list_models(pattern: str = '*') -> list[str]:
    """Names of the models, such as ``mvp_vitb16_in1k``.

    Args:
        pattern: Shell-style pattern. Default: all.
    """
    return fnmatch.filter(_configs(), pattern)


def model_config(name: str) -> Config:
    """The config of a model.

    Args:
        name: One of :func:`list_models`, or the path of a config file.

    Raises:
        ValueError: If the name is unknown.
    """
    configs = _configs()
    path = Path(name) if name.endswith('.py') else configs.get(name)
    if path is None or not path.is_file():
        as_path = name.removeprefix('mvp_mm::').removeprefix('configs/').removesuffix('.py').replace('/', '_')
        close = [as_path] if as_path in configs else difflib.get_close_matches(as_path, configs, n=4)
        hint = f'did you mean {" or ".join(close)}?' if close else 'mvp_mm.list_models() gives the names'
        raise ValueError(f'there is no model {name!r}: {hint}')
    with quiet_stack_noise():
        return Config.fromfile(path)


def get_model(name: str, pretrained: bool | str = False, **overrides) -> nn.Module:
    """A model by its name.

    Args:
        name: One of :func:`list_models`, or the path of a config file.
        pretrained: False for the initialisation, or a weight file or address: of the whole model, or a
            pre-training checkpoint for its backbone.
        **overrides: Values of the config's ``model`` to override, by key.

    Returns:
        The model in eval mode.

    Raises:
        ValueError: If the name is unknown, or ``pretrained=True``: this project has published no weights.
        FileNotFoundError: If there is no such weight file.
    """
    if pretrained is True:
        raise ValueError(f'there are no published weights of {name} yet: give pretrained=FILE_OR_URL')
    cfg = model_config(name)
    if overrides:
        cfg.merge_from_dict({'model': overrides})
    return build_from_config(cfg, pretrained or None)
