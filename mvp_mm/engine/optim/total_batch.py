"""Arithmetic of the recipe's total batch on any number of GPUs."""

from dataclasses import dataclass

from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner


@dataclass(frozen=True)
class TotalBatchPlan:
    """How a run makes up the recipe's total batch.

    Args:
        accumulation: Iterations whose gradients are added up before an optimiser step.
        lr_scale: Factor on the learning rate; 1 where the total batch is kept.
        message: One line for the log.
    """

    accumulation: int
    lr_scale: float
    message: str

    @property
    def keeps_recipe(self) -> bool:
        """Whether an optimiser step sees the recipe's total batch."""
        return self.lr_scale == 1


def plan_total_batch(
    total: int, processes: int, batch: int, iterations_per_epoch: int | None
) -> TotalBatchPlan:
    """Choose gradient accumulation so that processes x batch x accumulation is the recipe's total.

    Where that does not divide, or an epoch is shorter than one such step, the run keeps the batch it
    has and its learning rate is scaled linearly.

    Args:
        total: The recipe's total batch (``auto_scale_lr.base_batch_size``).
        processes: GPUs, or CPU processes.
        batch: Images an iteration and process.
        iterations_per_epoch: Length of the training loader, or None where the loader has no end.

    Returns:
        The plan.
    """
    at_once = processes * batch
    product = f'{counted_processes(processes)} x {batch} images'
    if at_once == total:
        return TotalBatchPlan(1, 1.0, f'Total batch: {product} = {total}, as the recipe says.')
    accumulation = total // at_once
    advice = ''
    if at_once * accumulation != total:
        reason = f'{total} is no multiple of that'
        if total % processes == 0:
            share = total // processes
            fitting = max(size for size in range(1, min(batch, share) + 1) if share % size == 0)
            advice = f' train_dataloader.batch_size={fitting} would keep the recipe.'
    elif iterations_per_epoch is not None and iterations_per_epoch < accumulation:
        reason = f'an epoch has only {iterations_per_epoch} iterations, less than {total} images'
    else:
        return TotalBatchPlan(
            accumulation,
            1.0,
            f'Total batch: {product} x {accumulation} accumulated iterations = {total}, as the recipe says.',
        )
    scale = at_once / total
    return TotalBatchPlan(
        1,
        scale,
        f'Total batch: {product} = {at_once} instead of the {total} of the recipe ({reason}). The '
        f'learning rate is scaled by {at_once}/{total} = {scale:.4g}.{advice}',
    )


def counted_processes(number: int) -> str:
    """``'1 process'``, ``'2 processes'``."""
    return f'{number} process{"es" * (number > 1)}'


def stretch_iterations(runner: Runner, factor: int) -> None:
    """Count ``factor`` iterations where a recipe of optimiser steps says one: length, schedule, intervals.

    Args:
        runner: Of a training that counts iterations, with its loop built and its schedulers not yet.
        factor: Iterations of an optimiser step.
    """
    loop = runner._train_loop
    loop._max_iters *= factor
    loop.val_interval *= factor
    # from which MMEngine takes the interval again after each iteration
    loop.dynamic_intervals = [interval * factor for interval in loop.dynamic_intervals]
    loop.dynamic_milestones = [milestone * factor for milestone in loop.dynamic_milestones]
    for scheduler in runner.param_schedulers or ():
        if not scheduler.get('by_epoch', True):
            for key in ('begin', 'end'):
                if key in scheduler:
                    scheduler[key] *= factor
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and not hook.by_epoch:
            hook.interval *= factor
    runner.logger.info(
        f'The recipe counts optimiser steps: iterations, schedule and intervals are {factor} times as many'
    )
