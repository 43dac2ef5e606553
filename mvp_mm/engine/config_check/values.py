"""Values with which a config builds, and trains nonsense or fails late."""

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper

from .arguments import arguments_of, registered

# Package behind each of MMEngine's backends that need one.
BACKEND_PACKAGES = {
    'AimVisBackend': 'aim',
    'ClearMLVisBackend': 'clearml',
    'DVCLiveVisBackend': 'dvclive',
    'MLflowVisBackend': 'mlflow',
    'NeptuneVisBackend': 'neptune',
    'TensorboardVisBackend': 'tensorboard',
    'WandbVisBackend': 'wandb',
}
LOG_LEVELS = ('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL')


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class Rule:
    """What some values have to be.

    Args:
        expected: In words.
        sound: The test.
        many: Whether a list or tuple of such values will do, of at least one.
        none: Whether None will do.
        only_many: Whether one value alone will not.
    """

    expected: str
    sound: Callable[[Any], bool]
    many: bool = False
    none: bool = False
    only_many: bool = False

    def allows(self, value: Any) -> bool:
        """Whether a value is sound."""
        if value is None:
            return self.none
        if isinstance(value, list | tuple):
            return self.many and len(value) > 0 and all(map(self.sound, value))
        return not self.only_many and self.sound(value)


COUNT = Rule('a whole number of 1 or more', lambda v: _whole(v) and v >= 1)
COUNT_OR_NONE = replace(COUNT, expected='a whole number of 1 or more, or None', none=True)
COUNT_OR_ALL = Rule('a whole number of 1 or more, or -1', lambda v: _whole(v) and (v >= 1 or v == -1))
COUNTS = Rule('whole numbers of 1 or more', lambda v: not _number(v) or COUNT.sound(v), many=True, none=True)
FROM_0 = Rule('a whole number of 0 or more', lambda v: _whole(v) and v >= 0)
FINITE = Rule('a finite number of 0 or more', lambda v: _number(v) and 0 <= v < math.inf)
FINITES = replace(FINITE, many=True, none=True)
ABOVE_0 = Rule('a number above 0', lambda v: _number(v) and v > 0)
SIZES = Rule('numbers above 0', lambda v: not _number(v) or v > 0, many=True, none=True)
FACTOR = Rule('a number above 0, up to 1', lambda v: _number(v) and 0 < v <= 1)
SHARE = Rule('a number from 0 to 1', lambda v: _number(v) and 0 <= v <= 1, many=True, none=True)
RATE = Rule('a number of 0 or more, below 1', lambda v: _number(v) and 0 <= v < 1, many=True, none=True)
RATE_OR_OFF = replace(RATE, sound=lambda v: RATE.sound(v) or v == -1)  # mmseg's way to say: none
MEAN = Rule('a list of finite numbers', lambda v: _number(v) and abs(v) < math.inf, True, True, True)
SPREAD = Rule('a list of finite numbers above 0', lambda v: _number(v) and 0 < v < math.inf, True, True, True)
METHOD = Rule("'fork', 'spawn' or 'forkserver'", lambda v: v in ('fork', 'spawn', 'forkserver'))
SEED = Rule('a whole number from 0 to 2**32 - 1, or None', lambda v: _whole(v) and 0 <= v < 2**32, none=True)
# Of the keys below each of these paths.
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
RULES = [
    ('optim_wrapper', 'lr weight_decay eps lr_mult decay_mult', FINITE),
    ('optim_wrapper', 'momentum', RATE),
    (
        'optim_wrapper',
        'betas',
        replace(RATE, expected='numbers of 0 or more, below 1, as a list', only_many=True),
    ),
    ('optim_wrapper', 'max_norm clip_value norm_type', ABOVE_0),
    ('optim_wrapper', 'accumulative_counts max_skipped_steps', COUNT),
    ('optim_wrapper', 'layer_decay_rate', FACTOR),
    *(
        (loader, 'batch_size count total_batch num_masking_patches min_num_patches', COUNT)
        for loader in LOADERS
    ),
    *((loader, 'prefetch_factor num_batch_per_epoch', COUNT_OR_NONE) for loader in LOADERS),
    *((loader, 'num_workers', FROM_0) for loader in LOADERS),
    *((loader, 'timeout', FINITE) for loader in LOADERS),
    *((loader, 'crop_size size', SIZES) for loader in LOADERS),
    *((loader, 'prob p flip erase_prob', SHARE) for loader in LOADERS),
    ('train_cfg', 'max_epochs max_iters val_interval', COUNT),
    ('train_cfg', 'val_begin', FROM_0),
    ('param_scheduler', 'begin', FROM_0),
    ('param_scheduler', 'start_factor', FACTOR),
    ('param_scheduler', 'eta_min', FINITES),
    ('param_scheduler', 'eta_min_ratio', SHARE),
    ('param_scheduler', 'power', ABOVE_0),
    *((hooks, 'interval max_keep_ckpts', COUNT_OR_ALL) for hooks in ('default_hooks', 'custom_hooks')),
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
    """Refuse a config whose numbers make no sense, or whose parts do not fit together.

    Args:
        cfg: The whole config.

    Raises:
        ValueError: With the first such value, and what is expected.
    """
    for top, keys, rule in RULES:
        for path, key, value in _values(top, _at(cfg, top)):
            if key in keys.split() and not rule.allows(value):
                raise ValueError(f'{path}={value}: expected {rule.expected}')
    for place, key in (('', 'env_cfg'), ('', 'randomness'), *((loader, 'dataset') for loader in LOADERS)):
        holder = _at(cfg, place) if place else cfg
        if holder and key in holder and holder[key] is None:
            raise ValueError(f'{place}{"." * bool(place)}{key}=None: expected a dict, not None')
    level = cfg.get('log_level', 'INFO')
    if level not in LOG_LEVELS and not _whole(level):
        raise ValueError(f'log_level={level}: expected one of {", ".join(LOG_LEVELS)}')
    for key in ('default_scope', 'experiment_name', 'load_from', 'work_dir'):
        if not isinstance(cfg.get(key), str | None):
            raise ValueError(f'{key}={cfg.get(key)}: expected text (a file of this name: ./{cfg.get(key)})')
    scope = cfg.get('default_scope')
    if scope is not None and importlib.util.find_spec(scope) is None:
        raise ValueError(f'default_scope={scope}: no package of this name is installed')
    _require_schedules(cfg)
    _require_packages(cfg)
    _require_windows(cfg)
    _require_labels_alike(cfg)
    _require_crops_of_model(cfg)


def _at(cfg: Config, path: str) -> Any:
    found: Any = cfg
    for part in path.split('.'):
        found = found.get(part) if isinstance(found, Mapping | Config) else None
    return found


def _dicts(path: str, value: Any) -> Iterator[tuple[str, Mapping]]:
    """All dicts in a value, with their dotted paths."""
    entries: Any = ()
    if isinstance(value, Mapping):
        yield path, value
        entries = value.items()
    elif isinstance(value, list | tuple):
        entries = enumerate(value)
    for key, entry in entries:
        yield from _dicts(f'{path}.{key}', entry)


def _values(path: str, value: Any) -> Iterator[tuple[str, str, Any]]:
    """Dotted path, key and value of all that these dicts hold."""
    for below, entries in _dicts(path, value):
        for key, entry in entries.items():
            yield f'{below}.{key}', key, entry


def require_device_for(cfg: Config) -> None:
    """Refuse MMEngine's wrapper for mixed precision on a CPU.

    Raises:
        ValueError: If the config has it and there is no GPU.
    """
    kind = registered((cfg.get('optim_wrapper') or {}).get('type'), cfg.get('default_scope'))
    if isinstance(kind, type) and issubclass(kind, AmpOptimWrapper) and get_device() == 'cpu':
        raise ValueError(
            f'optim_wrapper.type={kind.__name__} needs a GPU, and there is none: use MVPOptimWrapper, with '
            'precision="bfloat16" (or --amp) where the CPU has bf16'
        )


def _require_schedules(cfg: Config) -> None:
    """Every schedule ends after it begins."""
    for path, entry in _dicts('param_scheduler', cfg.get('param_scheduler')):
        begin, end = entry.get('begin', 0), entry.get('end', math.inf)
        if not (_number(end) and end > begin):
            raise ValueError(f'{path}.end={end}: expected a number above its begin={begin}')


def _require_packages(cfg: Config) -> None:
    """Every backend of the visualizer can be imported."""
    for path, key, value in _values('visualizer', cfg.get('visualizer')):
        package = BACKEND_PACKAGES.get(str(value).rpartition('.')[-1]) if key == 'type' else None
        if package and importlib.util.find_spec(package) is None:
            raise ValueError(
                f'{path}={value} needs the package {package}, which is not installed: pip install {package}, '
                'or leave this backend out of visualizer.vis_backends'
            )


def _require_windows(cfg: Config) -> None:
    """A segmentor's windows cover the image."""
    model = cfg.get('model') or {}
    settings = model.get('test_cfg') or {}
    if 'decode_head' not in model or not settings:
        return
    if settings.get('mode', 'whole') not in ('slide', 'slide_flip', 'whole'):
        raise ValueError(f"model.test_cfg.mode={settings['mode']}: expected 'slide' or 'whole'")
    if settings.get('mode') == 'slide':
        stride, crop = _pair(settings.get('stride')), _pair(settings.get('crop_size'))
        if stride is None or crop is None or stride[0] > crop[0] or stride[1] > crop[1]:
            raise ValueError(
                f"model.test_cfg: mode='slide' needs a crop_size and a stride of no more, two each; got "
                f'crop_size={settings.get("crop_size")}, stride={settings.get("stride")}'
            )


def _require_labels_alike(cfg: Config) -> None:
    """mmseg's datasets and the steps that read label maps agree on ``reduce_zero_label``."""
    for top in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = (cfg.get(top) or {}).get('dataset')
        kind = (
            registered(dataset.get('type'), cfg.get('default_scope'))
            if isinstance(dataset, Mapping)
            else None
        )
        if kind is None or 'reduce_zero_label' not in (takes := arguments_of(kind).names):
            continue
        of_dataset = dataset.get('reduce_zero_label', takes['reduce_zero_label'].default)
        for path, key, value in _values(f'{top}.dataset.pipeline', dataset.get('pipeline')):
            if key == 'reduce_zero_label' and value is not None and bool(value) != bool(of_dataset):
                raise ValueError(
                    f'{path}={value}, but {top}.dataset.reduce_zero_label is {of_dataset}: set both alike'
                )


def _require_crops_of_model(cfg: Config) -> None:
    """In pre-training crops and masks have the size that the model is built for."""
    model = cfg.get('model') or {}
    backbone = model.get('backbone') or {}
    size, patch = _pair(backbone.get('img_size')), _pair(backbone.get('patch_size'))
    if model.get('type') != 'MVP' or size is None or patch is None:
        return
    if any(side % of for side, of in zip(size, patch, strict=True)):
        raise ValueError(
            f'model.backbone.img_size={backbone.img_size} is no multiple of patch_size={backbone.patch_size}'
        )
    grid = tuple(side // of for side, of in zip(size, patch, strict=True))
    for top in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        pipeline = ((cfg.get(top) or {}).get('dataset') or {}).get('pipeline') or []
        crop = None
        for index, step in enumerate(pipeline):
            path = f'{top}.dataset.pipeline.{index}'
            if 'Crop' in str(step.get('type')) and 'size' in step:
                crop = (f'{path}.size', _pair(step['size']))
            mask = _pair(step.get('input_size')) if step.get('type') == 'BlockwiseMask' else grid
            if mask not in (grid, None):
                raise ValueError(
                    f'{path}.input_size={step["input_size"]}, but an image of model.backbone.img_size='
                    f'{backbone.img_size} has {grid[0]}x{grid[1]} patches of {backbone.patch_size} pixels: '
                    'set both alike'
                )
        if crop is not None and crop[1] not in (size, None):
            raise ValueError(
                f'{crop[0]}={crop[1][0]}x{crop[1][1]}, but model.backbone.img_size={backbone.img_size}: set '
                'both alike'
            )


def _pair(value: Any) -> tuple[int, int] | None:
    if _whole(value):
        return value, value
    pair = tuple(value) if isinstance(value, list | tuple) else ()
    return pair if len(pair) == 2 and all(map(_whole, pair)) else None
