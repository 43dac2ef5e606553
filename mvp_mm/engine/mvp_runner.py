"""MMEngine's runner, with the recipe's total batch kept and CPU processes supported."""

import copy
import logging
import os

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import RUNNERS
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from .broadcast_statistics_hook import BroadcastStatisticsHook
from .total_batch import counted_processes, plan_total_batch


@RUNNERS.register_module()
class MVPRunner(Runner):
    """The runner behind this package's tools.

    It differs from MMEngine's in four ways. It keeps ``auto_scale_lr.base_batch_size`` images an
    optimiser step by gradient accumulation (MMEngine alone silently trains with another total batch on
    another number of GPUs); ``auto_scale_lr.enable=True`` asks for MMEngine's rule instead, and a
    config without ``base_batch_size`` is taken as it stands. Several processes run on a CPU, with gloo,
    where MMEngine looks for a GPU. They validate with the same statistics of batch normalisation
    (:class:`BroadcastStatisticsHook`). And a loader takes no more workers than there are cores.
    """

    def setup_env(self, env_cfg: dict) -> None:
        """Start gloo before MMEngine reaches for CUDA."""
        on_cpu = not torch.cuda.is_available()
        if self._launcher == 'pytorch' and on_cpu and not torch.distributed.is_initialized():
            torch.distributed.init_process_group('gloo')
        super().setup_env(env_cfg)

    def register_hooks(
        self, default_hooks: dict | None = None, custom_hooks: list[Hook | dict] | None = None
    ) -> None:
        """Every run has the hook that makes the processes validate one model."""
        super().register_hooks(default_hooks, custom_hooks)
        self.register_hook(BroadcastStatisticsHook())

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """DDP takes no device ids on a CPU."""
        if self.distributed and model_wrapper_cfg is None and not torch.cuda.is_available():
            model_wrapper_cfg = dict(
                type='MMDistributedDataParallel',
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=self.cfg.get('find_unused_parameters', False),
            )
        return super().wrap_model(model_wrapper_cfg, model)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a loader whose workers fit the machine; the data do not depend on their number."""
        if isinstance(dataloader, dict):
            dataloader = copy.deepcopy(dataloader)
            _fit_machine(dataloader)
            if isinstance(dataloader.get('collate_fn'), dict):
                # Left by inheritance from `package::config`; MMEngine would pass it to the function.
                dataloader['collate_fn'].pop('_scope_', None)
        return Runner.build_dataloader(dataloader, seed, diff_rank_seed)

    def scale_lr(self, optim_wrapper: OptimWrapper, auto_scale_lr: dict | None = None) -> None:
        """Keep the total batch, or scale the learning rate where it cannot be kept.

        Raises:
            ValueError: If the training data do not fill one iteration.
        """
        loader = self.train_dataloader
        if not self._counts_iterations and len(loader) == 0:
            processes = counted_processes(self.world_size)
            raise ValueError(
                f'{len(loader.dataset)} images do not fill one iteration of {processes} '
                f'x {loader.batch_size} images (the last partial batch is dropped): lower '
                'train_dataloader.batch_size'
            )
        asked = auto_scale_lr or {}
        if asked.get('enable', False) or 'base_batch_size' not in asked:
            super().scale_lr(optim_wrapper, auto_scale_lr)
            return
        plan = plan_total_batch(
            total=asked['base_batch_size'],
            processes=self.world_size,
            batch=loader.batch_size,
            iterations_per_epoch=None if self._counts_iterations else len(loader),
        )
        self.logger.log(logging.INFO if plan.keeps_recipe else logging.WARNING, plan.message)
        if plan.accumulation > 1:
            optim_wrapper._accumulative_counts = plan.accumulation  # MMEngine has no setter
            if self._counts_iterations:
                self._stretch(plan.accumulation)
        groups = list(optim_wrapper.optimizer.param_groups)
        if optim_wrapper.base_param_settings is not None:
            groups.append(optim_wrapper.base_param_settings)  # what the log shows as base_lr
        for group in groups:
            group['lr'] *= plan.lr_scale

    @property
    def _counts_iterations(self) -> bool:
        return isinstance(self._train_loop, IterBasedTrainLoop)

    def _stretch(self, factor: int) -> None:
        """Count ``factor`` iterations where a recipe of optimiser steps says one."""
        self._train_loop._max_iters *= factor
        self._train_loop.val_interval *= factor
        for scheduler in self.param_schedulers or ():
            if not scheduler.get('by_epoch', True):
                for key in ('begin', 'end'):
                    if key in scheduler:
                        scheduler[key] *= factor
        for hook in self.hooks:
            if isinstance(hook, CheckpointHook) and not hook.by_epoch:
                hook.interval *= factor
        self.logger.info(
            f'The recipe counts optimiser steps: iterations, schedule and intervals are {factor} times as '
            'many'
        )


def _fit_machine(dataloader: dict) -> None:
    if not torch.cuda.is_available():
        dataloader['pin_memory'] = False  # nothing to pin for
    local_world_size = int(os.environ.get('LOCAL_WORLD_SIZE', get_world_size()))
    usable = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    cores = max(1, usable // local_world_size)
    wanted = dataloader.get('num_workers', 0)
    if wanted > cores:
        print_log(f'{cores} loader workers instead of {wanted}: one a core of this machine', 'current')
        dataloader['num_workers'] = cores
    if wanted == 0:
        dataloader.pop('persistent_workers', None)  # torch refuses what has no workers to keep
