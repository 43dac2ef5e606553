"""Images a second of whole trainings with evaluators off, waiting and learning."""

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

import mvp_mm.engine as engine

from .interleaved import Timing, tell

CONFIGS = Path(__file__).parents[1] / 'configs'
BATCH = 64  # scenes a step
PLAIN = 'no `evaluators` in the config'
_LOADER = dict(
    batch_size=64,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
_SCENES = dict(
    type='SceneImages',
    count=640,
    label='shape',
    pipeline=[dict(type='PackMaskedInputs', fields=('gt_label',))],
)
PROBE = dict(
    type='OnlineProbe',
    interval=1000,
    train_dataloader=dict(**_LOADER, dataset=dict(**_SCENES, split='train')),
    dataloader=dict(**_LOADER, dataset=dict(**_SCENES, split='val')),
)


class _Enough(Exception):
    """The time is known: what is due at the end of a training need not run."""


class EpochClock(Hook):
    """Count the seconds from the end of the first epoch to the end of the second, and end the training."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.ends: list[float] = []

    def after_train_epoch(self, runner: Runner) -> None:
        """Note the time."""
        self.ends.append(time.perf_counter())
        if len(self.ends) == 2:
            raise _Enough

    @property
    def seconds(self) -> float:
        """Seconds of the second epoch; in the first, workers start and memory is got."""
        return self.ends[1] - self.ends[0]


def variants() -> dict[str, list[dict[str, Any]] | None]:
    """The entries of ``evaluators`` by what they are called in the report."""
    names = Config.fromfile(CONFIGS / '_base_/evaluators/scenes.py')
    by_names = [dict(names[key].to_dict(), interval=1000) for key in ('scenes_shape', 'scenes_colour')]
    return {
        PLAIN: None,
        '`evaluators = []`': [],
        'two `ZeroShot`, not due': by_names,
        '`OnlineProbe`': [PROBE],
    }


def measure_evaluators(
    steps: int, rounds: int, kinds: int | None = None, told: Callable[[str], None] = tell
) -> dict[str, Timing]:
    """Train ``mvp/vittiny_scenes.py`` with each variant by turns; time the second epoch.

    Args:
        steps: Steps of an epoch.
        rounds: Trainings of each variant. The order of the variants turns by one each round.
        kinds: How many of :func:`variants`, from the first on. Default None: all.
        told: Gets a line a round.
    """
    names = list(variants())[:kinds]
    found = {name: Timing() for name in names}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(-1, rounds):  # the first fills the cache of scenes and does not count
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                seconds = train_seconds(variants()[name], steps, Path(folder))
                if number >= 0:
                    found[name].seconds.append(seconds)
            told(f'round {number + 1} of {rounds}' if number >= 0 else 'the cache of scenes is filled')
    return found


def train_seconds(
    entries: list[dict[str, Any]] | None, steps: int, folder: Path, batch: int = BATCH
) -> float:
    """Train for two epochs of so many steps; return the seconds of the second, data and hooks included."""
    cfg = engine.load_config(str(CONFIGS / 'mvp/vittiny_scenes.py'), work_dir=str(folder / 'run'))
    cfg.merge_from_dict(
        {
            'train_dataloader.batch_size': batch,
            'train_dataloader.sampler.total_batch': batch,
            'train_dataloader.dataset.count': steps * batch,
            'train_dataloader.dataset.cache_dir': str(folder / 'scenes'),
            'train_cfg.max_epochs': 2,
            'default_hooks.checkpoint.interval': 1000,
            'default_hooks.checkpoint.save_last': False,
        }
    )
    for phase in ('val', 'test'):
        cfg[f'{phase}_dataloader'] = cfg[f'{phase}_evaluator'] = cfg[f'{phase}_cfg'] = None
    if entries is not None:
        cfg.evaluators = entries
        for entry in cfg.evaluators:
            for loader in {'dataloader', 'train_dataloader'} & entry.keys():
                entry[loader].dataset.cache_dir = str(folder / 'scenes')
    runner = engine.build_runner(cfg)
    clock = EpochClock()
    runner.register_hook(clock, clock.priority)
    with suppress(_Enough):
        runner.train()
    return clock.seconds


def evaluators_report(found: dict[str, Timing], steps: int) -> str:
    """A Markdown table: images/s, and the speed as a share of the training without the key."""
    lines = ['| evaluators | images/s | of the first row | lowest, highest |', '|---|---|---|---|']
    for name, timing in found.items():
        ratios = [plain / own for plain, own in zip(found[PLAIN].seconds, timing.seconds, strict=True)]
        lines.append(
            f'| {name} | {steps * BATCH / timing.median:.0f} | {timing.ratio_to(found[PLAIN]):.3f} '
            f'| {min(ratios):.3f}, {max(ratios):.3f} |'
        )
    return '\n'.join([f'Torch uses {torch.get_num_threads()} threads.\n', *lines])
