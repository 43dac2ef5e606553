"""What the command-line tools share: options, a config from a file and options, a runner from a config."""

import argparse
import difflib
import logging
import os
import os.path as osp
import sys
from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.dist import is_main_process
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..stack import quiet_stack_noise
from .checkpoint.safe_checkpoint import saved_checkpoints
from .config_check import TOP_LEVEL, merge_options, require_device_for, require_sound_values, unread_keys
from .distributed.process_group import begin_process_group
from .mvp_runner import MVPRunner

# By launcher: the variable that it sets for each process, and how it is used.
LAUNCHERS = {
    'pytorch': ('RANK', 'torchrun, as tools/dist_train.sh does'),
    'slurm': ('SLURM_PROCID', 'srun, as tools/slurm_train.sh does'),
    'mpi': ('OMPI_COMM_WORLD_LOCAL_RANK', 'mpirun'),
}


class OptionAction(DictAction):
    """MMEngine's ``key=value`` options, with a word about one that is not of this form."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        for value in values:
            if '=' not in value:
                raise ValueError(
                    f'{option_string} takes KEY=VALUE, without spaces around the =; got {value!r}'
                )
        super().__call__(parser, namespace, values, option_string)


def positive_int(text: str) -> int:
    """An argument's ``type``: a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text} is no whole number of 1 or more')
    return int(text)


def positive_float(text: str) -> float:
    """An argument's ``type``: a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float('inf'):
        raise argparse.ArgumentTypeError(f'{text} is no finite number above 0')
    return number


def argument_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the options that :func:`load_config` takes, OpenMMLab's."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs, metrics and checkpoints')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionAction,
        help='override config values, for example train_dataloader.dataset.data_root=DIR',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # Given by torch.distributed.launch, which sets the LOCAL_RANK that is read as well.
    parser.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)
    return parser


def load_config(
    path: str, work_dir: str | None = None, launcher: str = 'none', cfg_options: dict | None = None
) -> Config:
    """Read a config and apply the options that every tool has.

    Args:
        path: Config file.
        work_dir: Folder for logs and checkpoints. Default None: the config's own, else
            ``work_dirs/<config name>``.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        cfg_options: Values to override, by dotted key.

    Returns:
        The config.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, nothing reads an option, a value makes no sense, or the launcher has
            not started this process.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(f'there is no config file {path}')
    _require_launched(launcher)
    try:
        with quiet_stack_noise():  # a config may import mmseg
            cfg = Config.fromfile(path)
    except Exception as error:  # a config is a program: anything may go wrong in it
        raise ValueError(f'{path} cannot be read as a config: {type(error).__name__}: {error}') from error
    if 'model' not in cfg:
        raise ValueError(f'{path} is no config to run: it has no `model`')
    apply_options(cfg, cfg_options or {})
    if cfg.model is None:
        raise ValueError('model=None: there is nothing to run')
    require_sound_values(cfg)
    cfg.launcher = launcher
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(path))[0])
    return cfg


def apply_options(cfg: Config, options: dict) -> None:
    """Merge options into a config; a key of its file that nothing reads gets a warning.

    Args:
        cfg: Changed in place.
        options: Values to override, by dotted key.

    Raises:
        ValueError: If nothing reads an option, it leads nowhere, or its value is of another kind than the
            config's.
    """
    for option in options:
        _require_known_key(cfg, option)
    merge_options(cfg, options)
    others = []
    all_unread, nones = unread_keys(cfg)
    for option in options:
        if option in nones:
            raise ValueError(f'--cfg-options {option}=None: expected a value, not None')
    for unread in all_unread:
        given = [option for option in options if f'{unread.path}.'.startswith(f'{option}.')]
        given += [option for option in options if f'{option}.'.startswith(f'{unread.path}.')]
        if given:
            raise ValueError(f'--cfg-options {given[0]}: {unread}')
        others.append(f'{unread.path} ({unread})')
    others += [
        f'{key} (did you mean {close[0]}?)'
        for key in cfg
        if key not in TOP_LEVEL and (close := difflib.get_close_matches(key, TOP_LEVEL, 1, 0.85))
    ]
    if others and is_main_process():
        print(f'WARNING: keys of {cfg.filename} that nothing reads: {"; ".join(others)}', file=sys.stderr)


def _require_known_key(cfg: Config, option: str) -> None:
    """Refuse an option whose first word nothing reads: MMEngine would take it and ignore it."""
    key = option.split('.')[0]
    if key == 'launcher':
        raise ValueError(f'--cfg-options {option}: give it as --launcher')
    if key in TOP_LEVEL:
        return
    if key in cfg:
        raise ValueError(
            f'--cfg-options {option}: `{key}` is a variable of the config file, used up when the file '
            f'was read, so setting it now changes nothing. Set the place where it is used, such as '
            f'train_dataloader.dataset.{key} for data, or set it in a config of your own'
        )
    close = difflib.get_close_matches(key, sorted(TOP_LEVEL), n=1)
    hint = f'; did you mean {close[0]}?' if close else ''
    raise ValueError(f'--cfg-options {option}: nothing reads a key `{key}`{hint}')


def require_training(cfg: Config) -> None:
    """Check that a config says what to train on, how long and by what.

    Raises:
        ValueError: If it does not.
    """
    missing = [key for key in ('train_dataloader', 'train_cfg', 'optim_wrapper') if not cfg.get(key)]
    if missing:
        raise ValueError(f'{cfg.filename} is no config to train: it has no {", no ".join(missing)}')


def _require_launched(launcher: str) -> None:
    """Refuse a launcher that has not started this process."""
    variable, started_by = LAUNCHERS.get(launcher, (None, ''))
    if variable and variable not in os.environ:
        raise ValueError(
            f'--launcher {launcher} is for processes started by {started_by}, and this one is not (the '
            f'environment has no {variable}). For one process leave --launcher out'
        )


def existing_checkpoint(path: str) -> str:
    """A checkpoint's path or address, checked before a model is built for it.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if osp.isdir(path):
        saved = [found.name for found in saved_checkpoints(path) if found.is_file()]
        such_as = f', such as {saved[0]}' if saved else ''
        raise FileNotFoundError(f'{path} is a folder: give the checkpoint file in it{such_as}')
    if '://' not in path and not osp.isfile(path):
        names = sorted(found.name for found in Path(path).parent.glob('*.pth'))
        beside = f'; beside it there is: {", ".join(names[:5])}' if names else ''
        raise FileNotFoundError(f'there is no checkpoint file {path}{beside}')
    if '://' in path and not path.startswith(('http://', 'https://')):
        raise FileNotFoundError(f'{path} cannot be read: give a file, or an http(s) address')
    return path


def run_command_line(main: Callable[[], None]) -> None:
    """Call a tool's main function; what the user can mend ends in one line, without a traceback.

    With ``MVP_MM_TRACEBACK=1`` in the environment the traceback is shown. Of several processes the line
    says which one it is of.
    """
    try:
        main()
    except (OSError, ValueError, FloatingPointError, TypeError, KeyError, RuntimeError) as error:
        told = _lost_process(error) or _first_told(error)
        if os.environ.get('MVP_MM_TRACEBACK') == '1' or not _is_users(error):
            raise
        sys.exit(f'\nERROR{_which_process()}: {told}\n(MVP_MM_TRACEBACK=1 shows where it came from.)')


def _which_process() -> str:
    processes = os.environ.get('WORLD_SIZE', '1')
    return '' if processes == '1' else f' (process {os.environ.get("RANK", "?")} of {processes})'


def _lost_process(error: Exception) -> str | None:
    """What to say where an exchange with another process failed because that one is gone."""
    if isinstance(error, RuntimeError) and 'by peer' in str(error):
        return (
            'another process of this job has ended. Why is in its own error, and in the summary at the end; '
            'go on from the last checkpoint with --resume'
        )
    return None


def _first_told(error: Exception) -> str:
    """What an error says, without the traceback that torch puts before it if it is a loader worker's."""
    text = str(error)
    if text.startswith('Caught ') and ' DataLoader worker ' in text:
        text = text.rsplit(f'{type(error).__name__}: ', 1)[-1].rstrip()
    return text


def _is_users(error: Exception) -> bool:
    """Whether an error tells of the config or the machine, not of a mistake in the code.

    Of the config: a key that no class takes, or a name that is not registered.
    """
    if isinstance(error, RuntimeError):
        return _lost_process(error) is not None
    if isinstance(error, TypeError | KeyError):
        return any(words in str(error) for words in ('unexpected keyword argument', ' registry. '))
    return True


def set_loader_option(cfg: Config, key: str, value: bool) -> None:
    """Set an option of all loaders, such as ``pin_memory``."""
    for phase in ('train', 'val', 'test'):
        loader = cfg.get(f'{phase}_dataloader')
        if loader is not None:
            loader[key] = value


def use_bf16(cfg: Config) -> None:
    """Train in bf16, on CUDA and CPU (``--amp``)."""
    wrapper = cfg.optim_wrapper
    if wrapper.get('type', 'OptimWrapper') in ('OptimWrapper', 'AmpOptimWrapper'):
        wrapper.type = 'MVPOptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(key, None)
    wrapper.precision = 'bfloat16'


def use_test_time_augmentation(cfg: Config) -> None:
    """Test with the config's ``tta_pipeline`` and ``tta_model`` (``--tta``).

    Raises:
        ValueError: If the config has none.
    """
    if 'tta_pipeline' not in cfg or 'tta_model' not in cfg:
        raise ValueError('--tta needs a config with tta_pipeline and tta_model, as those in configs/upernet')
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = dict(cfg.tta_model, module=cfg.model)


def fit_to_classes(cfg: Config) -> None:
    """Let a classification config follow ``model.head.num_classes``.

    Batch mixing gets the same number of classes, and a top-k that every answer would reach is left out.
    """
    classes = (cfg.model.get('head') or {}).get('num_classes')
    if classes is None:
        return
    if 'num_classes' in (cfg.model.get('data_preprocessor') or {}):
        cfg.model.data_preprocessor.num_classes = classes
    for key in ('val_evaluator', 'test_evaluator'):
        metrics = cfg.get(key) or []
        for metric in [metrics] if isinstance(metrics, dict) else metrics:
            topk = metric.get('topk', 1)
            if metric['type'] == 'Accuracy' and not isinstance(topk, int):
                metric['topk'] = [k for k in topk if k == 1 or k < classes]


def build_runner(cfg: Config, auto_batch: bool = True) -> Runner:
    """The runner of a config.

    Args:
        cfg: Config.
        auto_batch: Keep the recipe's total batch (see :class:`MVPRunner`). False takes the config as it
            stands.

    Returns:
        The runner, of the config's ``runner_type`` or :class:`MVPRunner`.
    """
    require_device_for(cfg)
    if not auto_batch and cfg.get('auto_scale_lr') and not cfg.auto_scale_lr.get('enable', False):
        cfg.auto_scale_lr = None
    found = cfg.get('resume') and (cfg.get('load_from') or saved_checkpoints(cfg.work_dir))
    nothing_to_resume = cfg.get('resume') and not found
    if nothing_to_resume:
        cfg.resume = False
    backbone = cfg.model.get('backbone', {})
    init_cfg = backbone.get('init_cfg') or {}
    # What is resumed holds all weights: the pre-training checkpoint need not be given again. What is loaded
    # before training fills the backbone: none need be given at all.
    given_elsewhere = found or (cfg.get('load_from') and not init_cfg.get('checkpoint'))
    if given_elsewhere and init_cfg.get('type') == 'Pretrained':
        backbone.init_cfg = None
    fit_to_classes(cfg)
    if 'runner_type' in cfg:
        begin_process_group(cfg.launcher, cfg.get('env_cfg', {}).get('dist_cfg'))
        return RUNNERS.build(cfg)
    runner = MVPRunner.from_cfg(cfg)
    runner.logger.log(logging.INFO, f'Logs and checkpoints go to {runner.work_dir}')
    if nothing_to_resume:
        runner.logger.warning(
            f'There is no checkpoint to resume in {runner.work_dir}: training starts at the beginning'
        )
    return runner
