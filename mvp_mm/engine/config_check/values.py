"""Values with which a config builds, and trains nonsense or fails late."""

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
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


def _all(value: Any, test: Callable[[Any], bool]) -> bool:
    return all(map(test, value)) if isinstance(value, list | tuple) else test(value)


# What is expected, and the test of it.
COUNT = ('a whole number of 1 or more', lambda v: _whole(v) and v >= 1)
COUNT_OR_NONE = ('a whole number of 1 or more, or None', lambda v: v is None or COUNT[1](v))
COUNT_OR_ALL = ('a whole number of 1 or more, or -1', lambda v: _whole(v) and (v >= 1 or v == -1))
COUNTS = ('whole numbers of 1 or more', lambda v: not _number(_first(v)) or _all(v, COUNT[1]))
FROM_0 = ('a whole number of 0 or more', lambda v: _whole(v) and v >= 0)
FINITE = ('a finite number of 0 or more', lambda v: _number(v) and 0 <= v < math.inf)
FINITES = ('finite numbers of 0 or more', lambda v: v is None or _all(v, FINITE[1]))
ABOVE_0 = ('a number above 0', lambda v: _number(v) and v > 0)
FACTOR = ('a number above 0, up to 1', lambda v: _number(v) and 0 < v <= 1)
SHARE = ('a number from 0 to 1', lambda v: v is None or _all(v, lambda w: _number(w) and 0 <= w <= 1))
RATE = (
    'a number from 0 up to, but not, 1',
    lambda v: v is None or _all(v, lambda w: _number(w) and 0 <= w < 1),
)
SPREAD = ('finite numbers above 0', lambda v: v is None or _all(v, lambda w: _number(w) and 0 < w < math.inf))
SEED = ('a whole number from 0 to 2**32 - 1, or None', lambda v: v is None or _whole(v) and 0 <= v < 2**32)
# By the first key, and by the last.
LOADER = dict(
    batch_size=COUNT, num_workers=FROM_0, prefetch_factor=COUNT_OR_NONE, num_batch_per_epoch=COUNT_OR_NONE
)
LOADER |= dict(
    count=COUNT, total_batch=COUNT, timeout=FINITE, num_masking_patches=COUNT, min_num_patches=COUNT
)
LOADER |= dict(crop_size=COUNTS, size=COUNTS, prob=SHARE, p=SHARE, flip=SHARE, erase_prob=SHARE)
EVERY = dict(interval=COUNT_OR_ALL, max_keep_ckpts=COUNT_OR_ALL, retry_interval=COUNT)
RULES: dict[str, dict[str, tuple[str, Callable[[Any], bool]]]] = {
    'optim_wrapper': dict(lr=FINITE, weight_decay=FINITE, eps=FINITE, betas=RATE, momentum=RATE)
    | dict(max_norm=ABOVE_0, clip_value=ABOVE_0, norm_type=ABOVE_0, accumulative_counts=COUNT)
    | dict(max_skipped_steps=COUNT, layer_decay_rate=FACTOR, lr_mult=FINITE, decay_mult=FINITE),
    'train_dataloader': LOADER,
    'val_dataloader': LOADER,
    'test_dataloader': LOADER,
    'train_cfg': dict(max_epochs=COUNT, max_iters=COUNT, val_interval=COUNT, val_begin=FROM_0),
    'param_scheduler': dict(
        begin=FROM_0, start_factor=FACTOR, eta_min=FINITE, eta_min_ratio=SHARE, power=ABOVE_0
    ),
    'default_hooks': EVERY,
    'custom_hooks': EVERY | dict(max_share=SHARE),
    'randomness': dict(seed=SEED),
    'auto_scale_lr': dict(base_batch_size=COUNT),
    'log_processor': dict(window_size=COUNT),
    'model': dict(
        drop_path_rate=RATE, drop_rate=RATE, attn_drop_rate=RATE, dropout_ratio=RATE, label_smooth_val=RATE
    )
    | dict(img_size=COUNTS, patch_size=COUNTS, crop_size=COUNTS, stride=COUNTS, window_batch=COUNT)
    | dict(
        num_classes=COUNT, embed_dims=COUNTS, num_layers=COUNT, num_heads=COUNTS, feedforward_channels=COUNT
    )
    | dict(
        channels=COUNTS, layer_scale_init_value=FINITE, cls_weight=FINITE, loss_weight=FINITES, std=SPREAD
    ),
}


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) and value else value


def require_sound_values(cfg: Config) -> None:
    """Refuse a config whose numbers make no sense, or whose parts do not fit together.

    Args:
        cfg: The whole config.

    Raises:
        ValueError: With the first such value, and what is expected.
    """
    for top, rules in RULES.items():
        for path, key, value in _values(top, cfg.get(top)):
            expected, sound = rules.get(key, ('', None))
            if sound is not None and not sound(value):
                raise ValueError(f'{path}={value}: expected {expected}')
    level = cfg.get('log_level', 'INFO')
    if level not in LOG_LEVELS and not _whole(level):
        raise ValueError(f'log_level={level}: expected one of {", ".join(LOG_LEVELS)}')
    _require_schedules(cfg)
    _require_packages(cfg)
    _require_labels_alike(cfg)
    _require_crops_of_model(cfg)


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
