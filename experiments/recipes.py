"""How students learn from labels: by one recipe, or by the best of a few on validation data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from .jobs import figures_of

TUNING = 'tune-'  # before the names of the jobs that try a recipe
AnyJob = TypeVar('AnyJob', bound=Any)


@dataclass(frozen=True)
class Recipe:
    """How a student learns from labels.

    Args:
        rate: Learning rate of the heads.
        decay: Factor from each block's learning rate to that of the block before it; 1 gives all the same.
    """

    rate: float
    decay: float

    def __str__(self) -> str:
        return f'lr{self.rate:g}-decay{self.decay:g}'


def tuned(
    jobs: Sequence[AnyJob], title: str, recipes: Sequence[Recipe], trial: AnyJob | None = None
) -> list[AnyJob]:
    """Give jobs their recipe: the only one, or the best of those that are tried before.

    Args:
        jobs: Dataclasses with ``name``, ``needs`` and ``recipe``.
        title: Of the trials, which are jobs called ``tune-<title>-<recipe>``.
        recipes: To choose from.
        trial: What a trial is like. Default None: they are planned already.

    Returns:
        The trials, where there are several recipes, and the jobs, which need them.
    """
    if len(recipes) == 1:
        return [replace(job, recipe=recipes[0]) for job in jobs]
    trials = {f'{TUNING}{title}-{recipe}': recipe for recipe in recipes}
    first = [] if trial is None else [replace(trial, name=name, recipe=trials[name]) for name in trials]
    return [*first, *(replace(job, needs=(*job.needs, *trials)) for job in jobs)]


def recipe_of(job: Any, out: Path, figure: str) -> Recipe:
    """A job's own recipe, or that of the trial it needs whose ``figure`` is the largest."""
    if job.recipe is not None:
        return job.recipe
    tried = [figures_of(out, name) for name in job.needs if name.startswith(TUNING)]
    best = max(tried, key=lambda figures: figures[figure])
    return Recipe(best['rate'], best['decay'])


def recipe_options(recipe: Recipe) -> dict:
    """Config options of a training that learns by this recipe."""
    return {
        'optim_wrapper.optimizer.lr': recipe.rate,
        'optim_wrapper.paramwise_cfg.layer_decay_rate': recipe.decay,
    }


def segmentation_length(steps: int) -> dict:
    """Config options of a segmentation of so many steps, a tenth of them warm-up."""
    warmup = max(1, steps // 10)
    return {
        'train_cfg.max_iters': steps,
        'train_cfg.val_interval': steps,
        'default_hooks.checkpoint.interval': max(1, steps // 4),
        'param_scheduler.0.end': warmup,
        'param_scheduler.1.begin': warmup,
        'param_scheduler.1.end': steps,
    }
