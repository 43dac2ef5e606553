"""Load a config, apply options to it, and adapt it to how it runs."""

import difflib
import os
import sys
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process

from ..stack import quiet_stack_noise
from .checkpoint.safe_checkpoint import saved_checkpoints
from .checkpoint.work_dir_lock import config_name, trained_config
from .config_check import TOP_LEVEL, merge_options, require_sound_values, unread_keys
from .config_check.walk import LOADERS, values

# Launcher -> the variable that it sets for each process, and how it is used.
LAUNCHERS = {
    'pytorch': ('RANK', 'torchrun, as tools/dist_train.sh does'),
    'slurm': ('SLURM_PROCID', 'srun, as tools/slurm_train.sh does'),
    'mpi': ('OMPI_COMM_WORLD_LOCAL_RANK', 'mpirun'),
}


class CachedConfigText(Config):
    """MMEngine's config, which keeps its text until it changes: yapf takes long to make it."""

    @classmethod
    def of(cls, cfg: Config) -> 'CachedConfigText':
        """Return the same config: a change of one is a change of the other."""
        same = cls.__new__(cls)
        same.__setstate__(cfg.__getstate__())
        return same

    @property
    def pretty_text(self) -> str:
        content = repr(self._cfg_dict)
        cached, text = self.__dict__.get('_formatted', (None, ''))
        if cached != content:
            text = super().pretty_text
            self.__dict__['_formatted'] = content, text
        return text


def is_config_file(path: str | Path) -> bool:
    """Tell whether a config can be read from this path, by its suffix and by there being a file."""
    return Path(path).suffix in ('.py', '.json', '.yaml', '.yml') and Path(path).is_file()


def read_config(path: str | Path) -> Config:
    """Read the config file of a model, a Python file or one that MMEngine dumped.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or has no ``model``.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no config file {path}')
    try:
        with quiet_stack_noise():  # a config may import mmseg
            cfg = Config.fromfile(path)
    except Exception as error:  # a config is a program: anything may go wrong in it
        failed: Any = error
        while str(failed).startswith('Failed to import') and failed.__context__ is not None:
            failed = failed.__context__  # MMEngine says what it could not import, and not why
        raise ValueError(f'{path} cannot be read as a config: {type(failed).__name__}: {failed}') from error
    if 'model' not in cfg:
        raise ValueError(f'{path} is no config of a model: it has no `model`')
    return cfg


def load_config(
    path: str, work_dir: str | None = None, launcher: str = 'none', cfg_options: dict | None = None
) -> Config:
    """Read a config and apply the options that every tool takes.

    Args:
        path: Config file.
        work_dir: Folder for logs and checkpoints; else the config's own, or ``work_dirs/<config name>``;
            where that holds a run of another config of this name, ``work_dirs/<its folder>_<config name>``.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        cfg_options: Values to override, by dotted key.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, has no sound values, or the launcher did not start this process.
    """
    variable, started_by = LAUNCHERS.get(launcher, (None, ''))
    if variable and variable not in os.environ:
        raise ValueError(
            f'--launcher {launcher} is for processes started by {started_by}, and this one is not (the '
            f'environment has no {variable}). For one process leave --launcher out'
        )
    cfg = read_config(path)
    apply_options(cfg, cfg_options or {})
    if cfg.model is None:
        raise ValueError('model=None: there is nothing to run')
    require_sound_values(cfg)
    cfg.launcher = launcher
    cfg.work_dir = work_dir or cfg.get('work_dir') or _default_work_dir(path)
    return cfg


def _default_work_dir(path: str) -> str:
    """Return ``work_dirs/<config name>``, or another one if a config of the same name has trained there."""
    folder, stem = f'work_dirs/{Path(path).stem}', Path(path).stem
    wanted, other = config_name(path), trained_config(folder)
    if other in ('', wanted) or not saved_checkpoints(folder):
        return folder
    own = f'work_dirs/{wanted.partition("/")[0]}_{stem}'
    if is_main_process():
        print(f'{folder} holds a run of {other}, so this one has the work dir {own}', file=sys.stderr)
    return own


def apply_options(cfg: Config, options: dict) -> None:
    """Merge options by dotted key in place, or raise ValueError; warn of unread keys of the config file."""
    for option in options:
        _require_known_key(cfg, option)
    merge_options(cfg, options)
    all_unread, nones = unread_keys(cfg)
    for option in options:
        if option in nones:
            raise ValueError(f'--cfg-options {option}=None: expected a value, not None')
    others = []
    for unread in all_unread:
        for option in options:
            path, other = sorted((f'{unread.path}.', f'{option}.'), key=len)
            if other.startswith(path):
                raise ValueError(f'--cfg-options {option}: {unread}')
        others.append(f'{unread.path} ({unread})')
    others += [
        f'{key} (did you mean {close[0]}?)'
        for key in cfg
        if key not in TOP_LEVEL and (close := difflib.get_close_matches(key, TOP_LEVEL, 1, 0.85))
    ]
    if others and is_main_process():
        print(f'WARNING: keys of {cfg.filename} that nothing reads: {"; ".join(others)}', file=sys.stderr)


def require_training(cfg: Config) -> None:
    """Raise ValueError unless a config says what to train on, how long and with which optimiser."""
    missing = [key for key in ('train_dataloader', 'train_cfg', 'optim_wrapper') if not cfg.get(key)]
    if missing:
        raise ValueError(f'{cfg.filename} is no config to train: it has no {", no ".join(missing)}')


def train_only(cfg: Config) -> None:
    """Leave out the validation, with its evaluators (``--no-validate``)."""
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.pop('evaluators', None)


def set_loader_option(cfg: Config, key: str, value: bool) -> None:
    """Set an option of all loaders, such as ``pin_memory``; those of evaluators are among them."""
    places = (*LOADERS, 'evaluators', 'val_evaluator', 'test_evaluator')
    for _, name, entry in values('', {place: cfg.get(place) for place in places}):
        if name.endswith('dataloader') and entry:
            entry[key] = value


def use_bf16(cfg: Config) -> None:
    """Train in bf16, on CUDA and CPU (``--amp``)."""
    wrapper = cfg.optim_wrapper
    if wrapper.get('type', 'OptimWrapper') in ('OptimWrapper', 'AmpOptimWrapper'):
        wrapper.type = 'MVPOptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(key, None)
    wrapper.precision = 'bfloat16'


def use_test_time_augmentation(cfg: Config) -> None:
    """Test with the config's ``tta_pipeline`` and ``tta_model`` (``--tta``), or raise ValueError without."""
    if 'tta_pipeline' not in cfg or 'tta_model' not in cfg:
        raise ValueError('--tta needs a config with tta_pipeline and tta_model, as those in configs/upernet')
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = dict(cfg.tta_model, module=cfg.model)


def _require_known_key(cfg: Config, option: str) -> None:
    """Refuse an option whose first key nothing reads: MMEngine would take and ignore it."""
    key = option.split('.')[0]
    if key == 'launcher':
        raise ValueError(f'--cfg-options {option}: give it as --launcher')
    if key in TOP_LEVEL:
        return
    if key in cfg:
        raise ValueError(
            f'--cfg-options {option}: `{key}` is a variable of the config file, used up when the file was '
            f'read. Set the place where it is used, such as train_dataloader.dataset.{key} for data'
        )
    close = difflib.get_close_matches(key, sorted(TOP_LEVEL), n=1)
    hint = f'; did you mean {close[0]}?' if close else ''
    raise ValueError(f'--cfg-options {option}: nothing reads a key `{key}`{hint}')
