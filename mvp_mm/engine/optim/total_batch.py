"""Keep the recipe's total batch on any number of GPUs."""

import logging
from typing import NamedTuple

from mmengine.hooks import CheckpointHook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import IterBasedTrainLoop, Runner

from ...wording import counted

# Arguments of MMEngine's schedules that count iterations, if they are not by epoch.
COUNTS = ('begin', 'end', 'milestones', 'periods', 'step_size', 'T_max', 'total_steps')


class TotalBatchPlan(NamedTuple):
    """How a run reaches the recipe's total batch: iterations a step, rate factor, line for the log."""

    accumulation: int
    lr_scale: float
    message: str

    @property
    def keeps_recipe(self) -> bool:
        """Whether an optimiser step sees the recipe's total batch."""
        return self.lr_scale == 1


def plan_total_batch(
    total: int, processes: int, batch: int, iterations_per_epoch: int | None, batch_coupled: bool = False
) -> TotalBatchPlan:
    """Choose gradient accumulation so that processes x batch x accumulation is the recipe's total.

    Where that does not divide, an epoch (None: endless) is shorter than such a step, or the loss couples the
    samples of a batch, the run keeps the batch it has and its learning rate is scaled linearly.
    """
    at_once = processes * batch
    product = f'{counted(processes, "process", "processes")} x {counted(batch, "image")}'
    if at_once == total:
        return TotalBatchPlan(1, 1.0, f'Total batch: {product} = {total}, as the recipe says.')
    accumulation, rest = divmod(total, at_once)
    share = 0 if total % processes else total // processes
    fitting = 0
    if batch_coupled and at_once < total:
        reason = 'the loss couples the samples of a batch, so it is not made up by accumulation'
        fitting = share
    elif rest:
        reason = f'{total} is no multiple of that'
        fitting = max((size for size in range(1, min(batch, share) + 1) if share % size == 0), default=0)
    elif iterations_per_epoch is not None and iterations_per_epoch < accumulation:
        reason = f'an epoch has only {counted(iterations_per_epoch, "iteration")}, less than {total} images'
    else:
        made_up = f'{product} x {accumulation} accumulated iterations = {total}, as the recipe says.'
        return TotalBatchPlan(accumulation, 1.0, f'Total batch: {made_up}')
    advice = f' train_dataloader.batch_size={fitting} would keep the recipe.' if fitting else ''
    scale = at_once / total
    message = (
        f'Total batch: {product} = {at_once} instead of the {total} of the recipe ({reason}). The '
        f'learning rate is scaled by {at_once}/{total} = {scale:.4g}.{advice}'
    )
    return TotalBatchPlan(1, scale, message)


def keep_total_batch(runner: Runner, optim_wrapper: OptimWrapper, total: int) -> None:
    """Accumulate, or scale the learning rate, by a logged plan; loop must be built, schedulers not yet."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    counts_iterations = isinstance(runner._train_loop, IterBasedTrainLoop)
    loader = runner.train_dataloader
    length = None if counts_iterations else len(loader)
    coupled = getattr(model, 'batch_coupled', False)
    batch = getattr(loader.batch_sampler, 'batch_size', loader.batch_size)
    plan = plan_total_batch(total, runner.world_size, batch, length, coupled)
    runner.logger.log(logging.INFO if plan.keeps_recipe else logging.WARNING, plan.message)
    if plan.accumulation > 1:
        optim_wrapper._accumulative_counts = plan.accumulation  # MMEngine has no setter
        if counts_iterations:
            _stretch_iterations(runner, plan.accumulation)
    for group in (*optim_wrapper.optimizer.param_groups, optim_wrapper.base_param_settings):
        if group is not None:  # the last one is logged as base_lr
            group['lr'] *= plan.lr_scale


def _stretched(scheduler: dict, factor: int) -> dict:
    """Return the arguments of a schedule by iterations that change where a step takes several."""
    counts = {key: scheduler[key] for key in COUNTS if scheduler.get(key) is not None}
    changed: dict = {
        key: [count * factor for count in value] if isinstance(value, list | tuple) else value * factor
        for key, value in counts.items()
    }
    if 'gamma' in scheduler and not counts.keys() & {'milestones', 'step_size'}:  # is for each iteration
        changed['gamma'] = scheduler['gamma'] ** (1 / factor)
    return changed


def _stretch_iterations(runner: Runner, factor: int) -> None:
    """Multiply length, schedule and intervals of a recipe that counts optimiser steps, for accumulation."""
    loop = runner._train_loop
    loop._max_iters *= factor
    loop.val_interval *= factor
    loop.val_begin *= factor
    # MMEngine takes the interval from these again after each iteration
    loop.dynamic_intervals = [interval * factor for interval in loop.dynamic_intervals]
    loop.dynamic_milestones = [milestone * factor for milestone in loop.dynamic_milestones]
    schedulers = runner.param_schedulers or []
    for scheduler in [schedulers] if isinstance(schedulers, dict) else schedulers:
        if not scheduler.get('by_epoch', True):
            scheduler.update(_stretched(scheduler, factor))
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and not hook.by_epoch:
            hook.interval *= factor
            hook.save_begin *= factor
    evaluation = runner._val_loop
    evaluators = evaluation.get('evaluators', []) if isinstance(evaluation, dict) else []
    for evaluator in evaluators:
        if evaluator.get('interval') is not None:
            evaluator['interval'] *= factor
    runner.logger.info(f'The recipe counts optimiser steps: lengths and intervals are times {factor}')
