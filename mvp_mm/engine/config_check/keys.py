"""Keys of a config that nothing reads.

MMEngine takes most options that nobody reads without a word: a dict that is passed on unchecked holds the
misspelt key for the rest of the run. Here what each dict may hold follows from the signature of what its
``type`` names, or, for the few dicts without one, from :data:`TOP_LEVEL` and :func:`_plain`.
"""

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import init_dist
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.utils.dl_utils import set_multi_processing
from torch.distributed import init_process_group
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader

from .arguments import arguments_of, keys_in_source, registered

# Packages whose sources are read to know what a dict without a type may hold.
READ_PACKAGES = ('mmengine', 'mmpretrain', 'mmseg', 'mvp_mm')
# How the runner reads each of its keys; '' stands for one value, or a dict with any keys.
TOP_LEVEL = {
    'model': 'typed',
    'data_preprocessor': 'typed',
    'train_dataloader': 'loader',
    'val_dataloader': 'loader',
    'test_dataloader': 'loader',
    'train_cfg': 'train loop',
    'val_cfg': 'ValLoop',
    'test_cfg': 'TestLoop',
    'val_evaluator': 'evaluator',
    'test_evaluator': 'evaluator',
    'evaluators': 'typed',
    'optim_wrapper': 'OptimWrapper',
    'param_scheduler': 'schedule',
    'auto_scale_lr': 'plain',
    'default_hooks': 'named hooks',
    'custom_hooks': 'hooks',
    'env_cfg': 'environment',
    'log_processor': 'LogProcessor',
    'visualizer': 'Visualizer',
    'randomness': 'plain',
    'model_wrapper_cfg': 'MMDistributedDataParallel',
    'strategy': 'SingleDeviceStrategy',
    'test_pipeline': 'typed',  # mmseg's and mmpretrain's inference
    'tta_pipeline': 'typed',
    'tta_model': 'typed',
    'compile': 'plain',
    **dict.fromkeys(
        (
            'activation_checkpointing',
            'bf16_gradients',
            'default_scope',
            'efficient_conv_bn_eval',
            'experiment_name',
            'find_unused_parameters',
            'init_weights_for_test_or_val',
            'launcher',
            'load_from',
            'log_level',
            'resume',
            'runner_type',
            'sync_bn',
            'work_dir',
        ),
        '',
    ),
}
# Given by whoever builds it, not by a config.
GIVEN = {'runner', 'dataloader', 'evaluator', 'optimizer', 'params', 'module', 'dataset', 'data_batch'}
# Beside the arguments: taken by whoever builds what stands at this key.
TAKEN_BY_BUILDER = {
    'norm_cfg': ('requires_grad',),
    'init_cfg': ('override',),
    'optim_wrapper': ('constructor', 'optimizer', 'paramwise_cfg'),
    'schedule': ('begin', 'by_epoch', 'convert_to_iter_based', 'end'),
    'hooks': ('priority',),
    'policies': ('magnitude_key',),
}
# What this package's runner takes for MMEngine's own.
TAKEN_FOR = {
    'CheckpointHook': 'SafeCheckpointHook',
    'EpochBasedTrainLoop': 'ExactEpochLoop',
    'IterBasedTrainLoop': 'ExactIterLoop',
}
LOADER_KEYS = ('dataset', 'disable_subprocess_warning', 'num_batch_per_epoch')


@dataclass(frozen=True)
class UnreadKey:
    """A key that nothing reads.

    Args:
        path: Dotted path.
        reader: What has been given it, such as the class of the dict.
        takes: What that takes.
    """

    path: str
    reader: str
    takes: tuple[str, ...]

    def __str__(self) -> str:
        key = self.path.rsplit('.', 1)[-1]
        close = difflib.get_close_matches(key, self.takes, n=1)
        some = self.takes if len(self.takes) < 16 else difflib.get_close_matches(key, self.takes, 5, 0)
        listed = ', '.join(some) or 'no keys'
        more = f' and {len(self.takes) - len(some)} more' if len(some) < len(self.takes) else ''
        hint = f'; did you mean {close[0]}?' if close else ''
        return f'nothing reads `{key}`: {self.reader} takes {listed}{more}{hint}'


def unread_keys(cfg: Config) -> tuple[list[UnreadKey], list[str]]:
    """Keys below the top level that certainly nothing reads.

    Args:
        cfg: The whole config, with all options merged. Its custom imports have been made.

    Returns:
        The keys, in the config's order. A dict of which it cannot be told what reads it may hold any. And
        the paths of what is None and has to be something.
    """
    walk = _Walk(cfg.get('default_scope'))
    for key, value in cfg.items():
        how = TOP_LEVEL.get(key)
        if how == '' and isinstance(value, Mapping):
            walk.found += [UnreadKey(path, key, ()) for path, _ in _entries(key, value)]
        elif how:
            walk.top_level(key, value, how)
    return walk.found, walk.nones


class _Walk:
    def __init__(self, scope: str | None) -> None:
        self.scope = scope
        self.found: list[UnreadKey] = []
        self.nones: list[str] = []

    def top_level(self, key: str, value: Any, how: str) -> None:
        if how == 'loader':
            takes = {*arguments_of(DataLoader).names, *LOADER_KEYS}
            self.plain(key, value, f'the loader {key}', takes)
        elif how == 'train loop':
            by_epoch = isinstance(value, Mapping) and value.get('by_epoch', True)
            default = 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop'
            self.typed(key, value, default, ('by_epoch',))
        elif how == 'evaluator':
            composed = isinstance(value, Mapping) and 'metrics' in value
            self.typed(key, value, 'Evaluator' if composed else None)
        elif how == 'schedule':
            by_optimizer = isinstance(value, Mapping) and 'type' not in value
            for path, entry in _entries(key, value) if by_optimizer else [(key, value)]:
                self.typed(path, entry, extra=TAKEN_BY_BUILDER['schedule'])
        elif how in ('hooks', 'named hooks'):
            named = how == 'named hooks' and isinstance(value, Mapping)
            for path, entry in _entries(key, value) if named else [(key, value)]:
                if named and isinstance(entry, Mapping) and 'type' not in entry:
                    self.report(path, key, _with_type(value))
                self.typed(path, entry, extra=TAKEN_BY_BUILDER['hooks'])
        elif how == 'environment':
            self.plain(key, value, key, ('cudnn_benchmark', 'dist_cfg', 'mp_cfg', 'resource_limit'))
        elif how == 'plain':
            self.parameter(key, key, value, None, ())
        else:
            default = None if how == 'typed' else how
            self.typed(key, value, default, TAKEN_BY_BUILDER.get(key, ()))

    def typed(self, path: str, value: Any, default: str | None = None, extra: Iterable[str] = ()) -> None:
        """A dict that says what is built of it, or a list of such."""
        if not isinstance(value, Mapping):
            for below, entry in _entries(path, value):
                self.typed(below, entry, default, extra)
            return
        outside, self.scope = self.scope, value.get('_scope_', self.scope)
        kind = value.get('type', default)
        reader = registered(TAKEN_FOR.get(kind, kind) if isinstance(kind, str) else kind, self.scope)
        if reader is not None:
            takes = arguments_of(reader)
            builder = {'type', '_scope_', *extra}
            if not takes.others:
                name = getattr(reader, '__name__', str(kind))
                allowed = {*takes.names, *extra} - (GIVEN - set(value) - set(extra))
                unread = [key for key in value if key not in takes.names and key not in builder]
                for key in unread:
                    self.report(f'{path}.{key}', name, allowed)
                value = {key: entry for key, entry in value.items() if key not in unread}
            self.nones += [
                f'{path}.{key}'
                for key, entry in value.items()
                if entry is None and key in takes.names and _needs_value(takes.names[key])
            ]
        classes = tuple(self.classes_in({k: v for k, v in value.items() if k != 'data_preprocessor'}))
        for key, entry in value.items():
            self.parameter(f'{path}.{key}', key, entry, reader, classes, value)
        self.scope = outside

    def parameter(
        self,
        path: str,
        key: str,
        value: Any,
        owner: Any,
        classes: tuple[type, ...],
        beside: Mapping = {},  # noqa: B006
    ) -> None:
        """What stands at one key, by what reads it."""
        if isinstance(value, Mapping) and 'type' not in value or key in ('clip_grad', 'paramwise_cfg'):
            known = self.plain_names(key, owner, classes, beside, value)
            if known is not None:
                self.plain(path, value, *known)
                return
        if isinstance(value, Mapping) and 'type' in value:
            of_owner = keys_in_source((owner,), key, attributes=False) if inspect.isclass(owner) else ()
            self.typed(path, value, extra={*TAKEN_BY_BUILDER.get(key, ()), *of_owner} - {'type'})
            return
        for below, entry in _entries(path, value):
            self.parameter(below, key if isinstance(value, list | tuple) else '', entry, None, ())

    def plain(self, path: str, value: Any, reader: str, names: Iterable[str]) -> None:
        """A dict without a type."""
        if not isinstance(value, Mapping):
            return
        names = set(names)
        for key, entry in value.items():
            if key not in names and key != '_scope_':
                self.report(f'{path}.{key}', reader, names)
            self.parameter(f'{path}.{key}', key, entry, None, ())

    def plain_names(
        self, key: str, owner: Any, classes: tuple[type, ...], beside: Mapping, value: Any
    ) -> tuple[str, Iterable[str]] | None:
        """Who reads a dict without a type, and its keys; None where that cannot be told."""
        is_class = inspect.isclass(owner)
        if is_class and issubclass(owner, OptimWrapper):
            if key == 'clip_grad':
                by = clip_grad_value_ if (value or {}).get('type') == 'value' else clip_grad_norm_
                return 'clip_grad', {'type', *arguments_of(by).names} - {'parameters'}
            if key == 'paramwise_cfg':
                kind = beside.get('constructor', 'DefaultOptimWrapperConstructor')
                constructor = registered(kind, self.scope)
                if not inspect.isclass(constructor):
                    return None
                keys = getattr(constructor, 'paramwise_keys', None)
                keys = keys_in_source((constructor,), key) if keys is None else keys
                return constructor.__name__, keys
        match key:
            case 'auto_scale_lr':
                return key, ('base_batch_size', 'enable')
            case 'randomness':
                return key, set(arguments_of(Runner.set_randomness).names) - {'self'}
            case 'compile':
                return 'torch.compile', set(arguments_of(torch.compile).names) - {'model'}
            case 'mp_cfg' if owner is None:
                return key, set(arguments_of(set_multi_processing).names) - {'distributed'}
            case 'dist_cfg' if owner is None:
                takes = {**arguments_of(init_dist).names, **arguments_of(init_process_group).names}
                return key, set(takes) - {'launcher'}
            case 'arch' if is_class and hasattr(owner, 'arch_zoo'):
                of_zoo = {name for arch in owner.arch_zoo.values() if isinstance(arch, dict) for name in arch}
                return f"{owner.__name__}'s arch", of_zoo | keys_in_source((owner,), 'arch_settings')
            case 'train_cfg' | 'test_cfg' if is_class and _is_read(owner):
                if any(base.__module__.startswith('mmpretrain.models') for base in owner.__mro__):
                    # handed to the preprocessor, for mixing
                    return f"{owner.__name__}'s {key}", ('augments', 'probs')
                # segmentors hand it to their heads, which may call it cfg
                return f"{owner.__name__}'s {key}", keys_in_source(classes, f'(?:{key}|cfg)')
        return None

    def classes_in(self, value: Any) -> Iterable[type]:
        """Classes of a dict and of all dicts in it."""
        if isinstance(value, Mapping):
            kind = registered(value['type'], self.scope) if 'type' in value else None
            if inspect.isclass(kind):
                yield kind
        for _, entry in _entries('', value):
            yield from self.classes_in(entry)

    def report(self, path: str, reader: str, takes: Iterable[str]) -> None:
        self.found.append(UnreadKey(path, reader, tuple(sorted(takes))))


def _entries(path: str, value: Any) -> list[tuple[str, Any]]:
    """Paths and values one level below."""
    if isinstance(value, Mapping):
        return [(f'{path}.{key}', entry) for key, entry in value.items()]
    if isinstance(value, list | tuple):
        return [(f'{path}.{index}', entry) for index, entry in enumerate(value)]
    return []


def _needs_value(parameter: inspect.Parameter) -> bool:
    """Whether an argument is certainly not to be None."""
    kind = str(parameter.annotation)
    number = isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)
    given = parameter.annotation is not parameter.empty and not re.search('None|Optional|Any', kind)
    return given and (number or parameter.default is parameter.empty)


def _with_type(value: Mapping) -> list[str]:
    return [key for key, entry in value.items() if isinstance(entry, Mapping) and 'type' in entry]


def _is_read(owner: type) -> bool:
    return all(
        base.__module__.split('.')[0] in (*READ_PACKAGES, 'torch', 'abc', 'builtins')
        for base in owner.__mro__
    )
