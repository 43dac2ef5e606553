"""Refuse values with which a config builds, but trains nonsense or fails late."""

import importlib.util
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper

from .arguments import arguments_of, registered
from .walk import LOADERS, at, datasets, dicts, values

# MMEngine's visualisation backends, <name>VisBackend, that need a package of this name in lower case.
BACKENDS = ('Aim', 'ClearML', 'DVCLive', 'MLflow', 'Neptune', 'Tensorboard', 'Wandb')
LOG_LEVELS = ('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL')


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class Rule(NamedTuple):
    """What a value must be, in words and as a test; whether a list of such, or None, is allowed too."""

    expected: str
    sound: Callable[[Any], bool]
    many: bool = False
    none: bool = False
    only_many: bool = False  # a single value is refused

    def allows(self, value: Any) -> bool:
        """Whether a value is sound."""
        if value is None:
            return self.none
        if isinstance(value, list | tuple):
            return self.many and len(value) > 0 and all(map(self.sound, value))
        return not self.only_many and self.sound(value)


COUNT = Rule('a whole number of 1 or more', lambda v: _whole(v) and v >= 1)
COUNT_OR_NONE = COUNT._replace(expected='a whole number of 1 or more, or None', none=True)
COUNT_OR_ALL = Rule('a whole number of 1 or more, or -1', lambda v: _whole(v) and (v >= 1 or v == -1))
COUNTS = Rule('whole numbers of 1 or more', lambda v: not _number(v) or COUNT.sound(v), many=True, none=True)
FROM_0 = Rule('a whole number of 0 or more', lambda v: _whole(v) and v >= 0)
FINITE = Rule('a finite number of 0 or more', lambda v: _number(v) and 0 <= v < math.inf)
FINITES = FINITE._replace(many=True, none=True)
ABOVE_0 = Rule('a number above 0', lambda v: _number(v) and v > 0)
SIZES = Rule('numbers above 0', lambda v: not _number(v) or v > 0, many=True, none=True)
FACTOR = Rule('a number above 0, up to 1', lambda v: _number(v) and 0 < v <= 1)
SHARE = Rule('a number from 0 to 1', lambda v: _number(v) and 0 <= v <= 1, many=True, none=True)
RATE = Rule('a number of 0 or more, below 1', lambda v: _number(v) and 0 <= v < 1, many=True, none=True)
RATES = RATE._replace(expected='numbers of 0 or more, below 1, as a list', only_many=True)
RATE_OR_OFF = RATE._replace(sound=lambda v: RATE.sound(v) or v == -1)  # mmseg's -1: no dropout
MEAN = Rule('a list of finite numbers', lambda v: _number(v) and abs(v) < math.inf, True, True, True)
SPREAD = Rule('a list of finite numbers above 0', lambda v: _number(v) and 0 < v < math.inf, True, True, True)
METHOD = Rule("'fork', 'spawn' or 'forkserver'", lambda v: v in ('fork', 'spawn', 'forkserver'))
SEED = Rule('a whole number from 0 to 2**32 - 1, or None', lambda v: _whole(v) and 0 <= v < 2**32, none=True)
# By path, the rules of the keys anywhere below it; DATA stands for each loader and the evaluators.
DATA = (*LOADERS, 'evaluators')
RULES: list[tuple[str | tuple[str, ...], str, Rule]] = [
    ('optim_wrapper', 'lr weight_decay eps lr_mult decay_mult', FINITE),
    ('optim_wrapper', 'momentum', RATE),
    ('optim_wrapper', 'betas', RATES),
    ('optim_wrapper', 'max_norm clip_value norm_type', ABOVE_0),
    ('optim_wrapper', 'accumulative_counts max_skipped_steps', COUNT),
    ('optim_wrapper', 'layer_decay_rate', FACTOR),
    (DATA, 'batch_size count total_batch min_num_patches', COUNT),
    (DATA, 'num_masking_patches num_workers', FROM_0),
    (DATA, 'prefetch_factor num_batch_per_epoch', COUNT_OR_NONE),
    (DATA, 'timeout', FINITE),
    (DATA, 'crop_size size', SIZES),
    (DATA, 'prob p flip erase_prob', SHARE),
    ('evaluators', 'interval num_classes', COUNT_OR_NONE),
    ('evaluators', 'train_interval', COUNT),
    ('evaluators', 'lr weight_decay', FINITE),
    ('train_cfg', 'max_epochs max_iters val_interval', COUNT),
    ('train_cfg', 'val_begin', FROM_0),
    ('param_scheduler', 'begin', FROM_0),
    ('param_scheduler', 'start_factor', FACTOR),
    ('param_scheduler', 'eta_min', FINITES),
    ('param_scheduler', 'eta_min_ratio', SHARE),
    ('param_scheduler', 'power', ABOVE_0),
    (('default_hooks', 'custom_hooks'), 'interval max_keep_ckpts', COUNT_OR_ALL),
    ('default_hooks.checkpoint', 'retry_interval', COUNT),
    ('custom_hooks', 'max_share', SHARE),
    ('env_cfg', 'mp_start_method', METHOD),
    ('env_cfg', 'resource_limit', COUNT),
    ('randomness', 'seed', SEED),
    ('auto_scale_lr', 'base_batch_size', COUNT),
    ('log_processor', 'window_size', COUNT),
    ('model', 'drop_path_rate drop_rate attn_drop_rate label_smooth_val', RATE),
    ('model', 'dropout_ratio', RATE_OR_OFF),
    ('model', 'img_size patch_size crop_size stride channels embed_dims num_layers num_heads', COUNTS),
    ('model', 'num_classes window_batch', COUNT),
    ('model', 'layer_scale_init_value cls_weight', FINITE),
    ('model', 'loss_weight', FINITES),
    ('model.data_preprocessor', 'mean second_mean', MEAN),
    ('model.data_preprocessor', 'std second_std', SPREAD),
]


def require_sound_values(cfg: Config) -> None:
    """Raise ValueError for the first value of a config that makes no sense or does not fit the others."""
    for places, keys, rule in RULES:
        for place in (places,) if isinstance(places, str) else places:
            for path, key, value in values(place, at(cfg, place)):
                if key in keys.split() and not rule.allows(value):
                    raise ValueError(f'{path}={value}: expected {rule.expected}')
    for path in ('env_cfg', 'randomness', *(f'{loader}.dataset' for loader in LOADERS)):
        if at(cfg, path, {}) is None:
            raise ValueError(f'{path}=None: expected a dict, not None')
    level = cfg.get('log_level', 'INFO')
    if level not in LOG_LEVELS and not _whole(level):
        raise ValueError(f'log_level={level}: expected one of {", ".join(LOG_LEVELS)}')
    for key in ('default_scope', 'experiment_name', 'load_from', 'work_dir'):
        if not isinstance(text := cfg.get(key), str | None):
            raise ValueError(f'{key}={text}: expected text (a file of this name: ./{text})')
    scope = cfg.get('default_scope')
    if scope is not None and importlib.util.find_spec(scope) is None:
        raise ValueError(f'default_scope={scope}: no package of this name is installed')
    for path, schedule in dicts('param_scheduler', cfg.get('param_scheduler')):
        begin, end = schedule.get('begin', 0), schedule.get('end', math.inf)
        if not (_number(end) and end > begin):
            raise ValueError(f'{path}.end={end}: expected a number above its begin={begin}')
    for path, key, value in values('visualizer', cfg.get('visualizer')):
        backend = str(value).rpartition('.')[-1].removesuffix('VisBackend')
        package = backend.lower()
        if key == 'type' and backend in BACKENDS and importlib.util.find_spec(package) is None:
            raise ValueError(f'{path}={value} needs a package that is not installed: pip install {package}')
    _require_windows(cfg)
    _require_equal_zero_labels(cfg)
    _require_crops_of_model(cfg)


def require_device_for(cfg: Config) -> None:
    """Raise ValueError for MMEngine's mixed-precision wrapper on a CPU."""
    kind = registered(at(cfg, 'optim_wrapper.type'), cfg.get('default_scope'))
    if isinstance(kind, type) and issubclass(kind, AmpOptimWrapper) and get_device() == 'cpu':
        raise ValueError(
            f'optim_wrapper.type={kind.__name__} needs a GPU, and there is none: use MVPOptimWrapper, with '
            'precision="bfloat16" (or --amp) where the CPU has bf16'
        )


def _require_windows(cfg: Config) -> None:
    """Check that a segmentor's windows cover the image."""
    settings = at(cfg, 'model.test_cfg')
    if at(cfg, 'model.decode_head') is None or not settings:
        return
    mode = settings.get('mode', 'whole')
    if mode not in ('slide', 'slide_flip', 'whole'):
        raise ValueError(f"model.test_cfg.mode={mode}: expected 'slide' or 'whole'")
    stride, crop = settings.get('stride'), settings.get('crop_size')
    pairs = zip(_pair(stride) or (math.inf, math.inf), _pair(crop) or (0, 0), strict=True)
    if mode == 'slide' and any(step > side for step, side in pairs):
        raise ValueError(
            "model.test_cfg: mode='slide' needs a crop_size and a stride of no more, two each; got "
            f'crop_size={crop}, stride={stride}'
        )


def _require_equal_zero_labels(cfg: Config) -> None:
    """Check that mmseg's datasets and transforms agree on ``reduce_zero_label``."""
    for place, dataset in datasets(cfg):
        kind = registered(dataset.get('type'), cfg.get('default_scope'))
        takes = arguments_of(kind).names if kind is not None else {}
        if 'reduce_zero_label' not in takes:
            continue
        own = dataset.get('reduce_zero_label', takes['reduce_zero_label'].default)
        for path, key, value in values(f'{place}.pipeline', dataset.get('pipeline')):
            if key == 'reduce_zero_label' and value is not None and bool(value) != bool(own):
                raise ValueError(f'{path}={value}, but {place}.reduce_zero_label is {own}: set both alike')


def _require_crops_of_model(cfg: Config) -> None:
    """Check that crops and masks of a pre-training have the size that its model is built for."""
    model = at(cfg, 'model.backbone') or {}
    size, patch = _pair(model.get('img_size')), _pair(model.get('patch_size'))
    if at(cfg, 'model.target_generator') is None or size is None or patch is None:
        return
    shown = f'model.backbone.img_size={model["img_size"]}'
    if size[0] % patch[0] or size[1] % patch[1]:
        raise ValueError(f'{shown} is no multiple of patch_size={model["patch_size"]}')
    grid = size[0] // patch[0], size[1] // patch[1]
    for place, dataset in datasets(cfg):
        path, crop = '', None  # of the last crop
        for index, step in enumerate(dataset.get('pipeline') or []):
            if 'Crop' in str(step.get('type')) and 'size' in step:
                path, crop = f'{place}.pipeline.{index}.size', _pair(step['size'])
            if _pair(step.get('input_size')) not in (grid, None):
                raise ValueError(
                    f'{place}.pipeline.{index}.input_size={step["input_size"]}, but an image of {shown} has '
                    f'{grid[0]}x{grid[1]} patches of {model["patch_size"]} pixels: set both alike'
                )
        if crop and crop != size:
            raise ValueError(f'{path}={crop[0]}x{crop[1]}, but {shown}: set both alike')


def _pair(value: Any) -> tuple[int, int] | None:
    if _whole(value):
        return value, value
    pair = tuple(value) if isinstance(value, list | tuple) else ()
    return pair if len(pair) == 2 and all(map(_whole, pair)) else None
