"""Find keys of a config that nothing reads: MMEngine ignores most misspelt ones."""

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.dist import init_dist
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.utils.dl_utils import set_multi_processing
from torch.distributed import init_process_group
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader

from ..checkpoint.exact_resume import EXACT_LOOPS
from .arguments import UNKNOWN, arguments_of, keys_in_source, registered
from .walk import LOADERS, dicts, entries

# Packages whose sources tell what a dict without a type may hold.
READ_PACKAGES = {'mmengine', 'mmpretrain', 'mmseg', 'mmdet', 'mvp_mm', 'torch', 'abc', 'builtins'}
# Top-level keys of what is built by its `type`, with the type that the runner takes where there is none.
BUILT = {
    **dict.fromkeys(('model', 'data_preprocessor', 'val_evaluator', 'test_evaluator', 'evaluators')),
    **dict.fromkeys(('param_scheduler', 'default_hooks', 'custom_hooks')),
    **dict.fromkeys(('test_pipeline', 'tta_pipeline', 'tta_model')),  # mmseg's and mmpretrain's inference
    'train_cfg': 'EpochBasedTrainLoop',
    'val_cfg': 'ValLoop',
    'test_cfg': 'TestLoop',
    'optim_wrapper': 'OptimWrapper',
    'log_processor': 'LogProcessor',
    'visualizer': 'Visualizer',
    'model_wrapper_cfg': 'MMDistributedDataParallel',
    'strategy': 'SingleDeviceStrategy',
}
WITHOUT_TYPE = (*LOADERS, 'auto_scale_lr', 'env_cfg', 'randomness', 'compile')
VALUES = """
    activation_checkpointing bf16_gradients default_scope efficient_conv_bn_eval experiment_name
    find_unused_parameters init_weights_for_test_or_val launcher load_from log_level resume runner_type
    sync_bn work_dir
"""
TOP_LEVEL = dict.fromkeys((*BUILT, *WITHOUT_TYPE, *VALUES.split()))
# Arguments that the builder gives, not the config.
GIVEN = {'runner', 'dataloader', 'evaluator', 'optimizer', 'params', 'module', 'dataset', 'data_batch'}
# Keys beside the arguments that the builder of what stands at a key takes.
TAKEN_BY_BUILDER = {
    'train_cfg': ('by_epoch',),
    'norm_cfg': ('requires_grad',),
    'init_cfg': ('override',),
    'optim_wrapper': ('constructor', 'optimizer', 'paramwise_cfg'),
    'param_scheduler': ('begin', 'by_epoch', 'convert_to_iter_based', 'end'),
    'default_hooks': ('priority',),
    'custom_hooks': ('priority',),
    'policies': ('magnitude_key',),
}
# What this package's runner builds instead of MMEngine's.
REPLACED = {loop.__name__: exact for loop, exact in EXACT_LOOPS.items()}
REPLACED['CheckpointHook'] = 'SafeCheckpointHook'
LOADER_KEYS = ('dataset', 'disable_subprocess_warning', 'num_batch_per_epoch')


class UnreadKey(NamedTuple):
    """The dotted path of a key that nothing reads, the class that receives it, and the keys it takes."""

    path: str
    reader: str
    takes: list[str]

    def __str__(self) -> str:
        key = self.path.rsplit('.', 1)[-1]
        close = difflib.get_close_matches(key, self.takes, n=1)
        some = self.takes if len(self.takes) < 16 else difflib.get_close_matches(key, self.takes, 5, 0)
        listed = ', '.join(some) or 'no keys'
        more = f' and {len(self.takes) - len(some)} more' if len(some) < len(self.takes) else ''
        hint = f'; did you mean {close[0]}?' if close else ''
        return f'nothing reads `{key}`: {self.reader} takes {listed}{more}{hint}'


def unread_keys(cfg: Config) -> tuple[list[UnreadKey], list[str]]:
    """Return keys below the top level that certainly nothing reads, and the paths of wrong Nones."""
    walk = _Walk(cfg.get('default_scope'))
    for key, value in cfg.items():
        if key in BUILT:
            default, given = BUILT[key], value if isinstance(value, Mapping) else {}
            if key == 'train_cfg' and not given.get('by_epoch', True):
                default = 'IterBasedTrainLoop'
            elif key.endswith('_evaluator') and 'metrics' in given:
                default = 'Evaluator'
            elif key == 'default_hooks':
                hooks = {name: 'type' in hook for name, hook in given.items() if isinstance(hook, Mapping)}
                for name in [name for name, has_type in hooks.items() if not has_type]:
                    walk.report(f'{key}.{name}', key, [hook for hook, has_type in hooks.items() if has_type])
            walk.typed(key, value, default, TAKEN_BY_BUILDER.get(key, ()))
        elif key in TOP_LEVEL:
            walk.parameter(key, key, value)
    return walk.found, walk.nones


class _Walk:
    def __init__(self, scope: str | None) -> None:
        self.scope = scope
        self.found: list[UnreadKey] = []
        self.nones: list[str] = []

    def typed(self, path: str, value: Any, default: str | None = None, extra: Iterable[str] = ()) -> None:
        """Check a dict with a type (or ``default``), or a list or dict of such."""
        if not isinstance(value, Mapping) or (default is None and 'type' not in value):
            for below, entry in entries(path, value):
                self.typed(below, entry, default, extra)
            return
        outside, self.scope = self.scope, value.get('_scope_', self.scope)
        kind = value.get('type', default)
        reader = registered(REPLACED.get(kind, kind) if isinstance(kind, str) else kind, self.scope)
        takes = UNKNOWN if reader is None else arguments_of(reader)
        allowed = {*takes.names, *extra} - (GIVEN - set(value) - set(extra))
        for key, entry in value.items():
            below = f'{path}.{key}'
            if not takes.others and key not in {*takes.names, 'type', '_scope_', *extra}:
                self.report(below, getattr(reader, '__name__', str(kind)), allowed)
                continue
            if entry is None and key in takes.names and _needs_value(takes.names[key]):
                self.nones.append(below)
            self.parameter(below, key, entry, reader, value)
        self.scope = outside

    def parameter(self, path: str, key: str, value: Any, owner: Any = None, beside: Any = None) -> None:
        """Check the value of one key, given the class that reads it and the dict in which it stands."""
        is_typed = isinstance(value, Mapping) and 'type' in value
        if isinstance(value, Mapping) and (not is_typed or key in ('clip_grad', 'paramwise_cfg')):
            reader, names = self.plain_names(key, owner, beside or {}, value)
            if reader is not None:
                for name, entry in value.items():
                    if name not in {*names, '_scope_'}:
                        self.report(f'{path}.{name}', reader, names)
                    self.parameter(f'{path}.{name}', name, entry)
                return
        if is_typed:
            of_owner = keys_in_source((owner,), key, attributes=False) if inspect.isclass(owner) else ()
            self.typed(path, value, extra={*TAKEN_BY_BUILDER.get(key, ()), *of_owner} - {'type'})
            return
        for below, entry in entries(path, value):
            self.parameter(below, '' if isinstance(value, Mapping) else key, entry)

    def plain_names(
        self, key: str, owner: Any, beside: Mapping, value: Mapping
    ) -> tuple[str | None, Iterable[str]]:
        """Return who reads a dict without a type, and its keys; None and nothing if unknown."""
        bases = inspect.getmro(owner) if inspect.isclass(owner) else ()
        packages = {base.__module__.partition('.')[0] for base in bases}
        match key:
            case 'clip_grad' if OptimWrapper in bases:
                by = clip_grad_value_ if value.get('type') == 'value' else clip_grad_norm_
                return key, {'type', *arguments_of(by).names} - {'parameters'}
            case 'paramwise_cfg' if OptimWrapper in bases:
                kind = beside.get('constructor', 'DefaultOptimWrapperConstructor')
                constructor = registered(kind, self.scope)
                if inspect.isclass(constructor):
                    own = getattr(constructor, 'paramwise_keys', None)
                    return constructor.__name__, keys_in_source((constructor,), key) if own is None else own
            case 'auto_scale_lr':
                return key, ('base_batch_size', 'enable')
            case 'env_cfg':
                return key, ('cudnn_benchmark', 'dist_cfg', 'mp_cfg', 'resource_limit')
            case 'randomness':
                return key, arguments_of(Runner.set_randomness).names.keys() - {'self'}
            case 'compile':
                return 'torch.compile', arguments_of(torch.compile).names.keys() - {'model'}
            case 'mp_cfg' if owner is None:
                return key, arguments_of(set_multi_processing).names.keys() - {'distributed'}
            case 'dist_cfg' if owner is None:
                takes = {**arguments_of(init_dist).names, **arguments_of(init_process_group).names}
                return key, takes.keys() - {'launcher'}
            case 'arch' if bases and hasattr(owner, 'arch_zoo'):
                of_zoo = {name for arch in owner.arch_zoo.values() if isinstance(arch, dict) for name in arch}
                return f"{owner.__name__}'s arch", of_zoo | keys_in_source((owner,), 'arch_settings')
            case 'train_cfg' | 'test_cfg' if bases and packages <= READ_PACKAGES:
                name = f"{owner.__name__}'s {key}"
                if any(base.__module__.startswith('mmpretrain.models') for base in bases):
                    return name, ('augments', 'probs')  # which the preprocessor mixes by
                parts = {name: part for name, part in beside.items() if name != 'data_preprocessor'}
                kinds = [registered(part.get('type'), self.scope) for _, part in dicts('', parts)]
                # segmentors hand it to their heads, which may call it cfg
                return name, keys_in_source(tuple(filter(inspect.isclass, kinds)), f'(?:{key}|cfg)')
            case _ if key in VALUES.split() and owner is None:
                return key, ()
            case _ if key.endswith('dataloader'):
                return f'the loader {key}', {*arguments_of(DataLoader).names, *LOADER_KEYS}
        return None, ()

    def report(self, path: str, reader: str, takes: Iterable[str]) -> None:
        self.found.append(UnreadKey(path, reader, sorted(takes)))


def _needs_value(parameter: inspect.Parameter) -> bool:
    """Whether an argument certainly must not be None."""
    kind = str(parameter.annotation)
    number = isinstance(parameter.default, int | float) and not isinstance(parameter.default, bool)
    given = parameter.annotation is not parameter.empty and not re.search('None|Optional|Any', kind)
    return given and (number or parameter.default is parameter.empty)
