import copy
import logging
import os
from collections import Counter
from io import TextIOWrapper
from typing import Any, ClassVar

import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import BaseDataPreprocessor
from mmengine.optim import OptimWrapper
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, Runner
from mmengine.runner.utils import set_random_seed
from mmengine.visualization import Visualizer
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from ..hardware import core_share
from ..stack import is_no_stack_noise
from .checkpoint.exact_resume import exact_loop
from .checkpoint.resumable_runner import ResumableRunner
from .checkpoint.work_dir_lock import config_name, lock_work_dir
from .config import CachedConfigText
from .deferred_message_hub import DeferredMessageHub
from .disk_full_logging import survive_full_disk
from .distributed.collectives import control_group
from .distributed.data_parallel import compress_gradients, ddp_config
from .distributed.process_group import begin_process_group, end_process_group_at_exit, in_step_with_peers
from .hooks.broadcast_statistics_hook import BroadcastStatisticsHook
from .hooks.single_image_hook import TORCH_MESSAGE, SingleImageHook, single_value_message
from .hooks.stop_on_signal_hook import StopOnSignalHook
from .loader_workers import clamp_workers, end_workers
from .loops.evaluation_loop import as_evaluation
from .loops.evaluator_loop import use_evaluators
from .optim.freed_memory import keep_freed_memory
from .optim.total_batch import keep_total_batch


@RUNNERS.register_module()
class MVPRunner(ResumableRunner):
    """MMEngine's runner, with differences that each live in a module of their own.

    * Checkpoints are resumed exactly (:class:`ResumableRunner`, :class:`SafeCheckpointHook`,
      :func:`exact_loop`), and one training at a time has a work dir (:func:`lock_work_dir`).
    * The recipe's total batch is kept on any number of GPUs (:func:`keep_total_batch`), unless
      ``auto_scale_lr`` has ``enable=True``, MMEngine's own rule, or no ``base_batch_size``.
    * Several processes run on a CPU with gloo (:func:`begin_process_group`), validate with the same batch
      normalisation (:class:`BroadcastStatisticsHook`), and draw different numbers.
    * Any number of evaluators validate (:func:`use_evaluators`), in TF32 on CUDA (:func:`as_evaluation`).
    * A loader has no more workers than there are cores (:func:`clamp_workers`).
    * Logging waits neither for the GPU (:class:`DeferredMessageHub`) nor for yapf
      (:class:`CachedConfigText`), and outlives a full disk (:func:`survive_full_disk`).
    """

    # Runs that this process has begun in a second; the same in all processes of a run.
    _runs_of_second: ClassVar[Counter[str]] = Counter()

    @classmethod
    def from_cfg(cls, cfg: Config | dict) -> Runner:
        if isinstance(cfg, Config):
            use_evaluators(cfg)
            cfg = CachedConfigText.of(cfg)
        return super().from_cfg(cfg)

    def setup_env(self, env_cfg: dict) -> None:
        """Start gloo before MMEngine asks for CUDA; let restarted processes find one another."""
        dist_cfg = env_cfg.get('dist_cfg') or {}
        begin_process_group(self._launcher, dist_cfg)
        super().setup_env(env_cfg)
        end_process_group_at_exit()
        if self.distributed:  # both ask all processes, which meet here
            control_group(dist_cfg.get('timeout'))
        core_share()
        self._runs_of_second[self._timestamp] += 1
        if self._runs_of_second[self._timestamp] > 1:  # MMEngine names loggers and visualizers by it
            self._timestamp += f'_{self._runs_of_second[self._timestamp]}'

    def set_randomness(
        self, seed: int | None, diff_rank_seed: bool = False, deterministic: bool = False
    ) -> None:
        """Seed all generators; tell cuBLAS of ``deterministic=True`` before it starts."""
        if deterministic:
            os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
        super().set_randomness(seed, diff_rank_seed, deterministic)

    def _init_model_weights(self) -> None:
        """Initialise alike in all processes, then seed each differently: drop path and mixing differ."""
        super()._init_model_weights()
        if self.rank > 0 and not self._randomness_cfg.get('diff_rank_seed', False):
            set_random_seed(self.seed + self.rank)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger; the stack's deprecation warnings stay off the screen."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(is_no_stack_noise)
            if isinstance(stream := getattr(handler, 'stream', None), TextIOWrapper):
                stream.reconfigure(errors='backslashreplace')  # names of files need be no text
        return logger

    def build_message_hub(self, message_hub: dict | None = None) -> MessageHub:
        """Build a message hub that does not wait for every loss."""
        return DeferredMessageHub.as_instance((message_hub or {}).get('name') or self.experiment_name)

    def build_visualizer(self, visualizer: Visualizer | dict | None = None) -> Visualizer:
        """Build the visualizer; neither its files nor the log's end a training on a full disk."""
        built = super().build_visualizer(visualizer)
        survive_full_disk(self.logger, built)
        return built

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap in DDP, on a CPU too; ``bf16_gradients=True`` in the config halves the bytes it sends."""
        for module in model.modules():
            if isinstance(module, BaseDataPreprocessor):
                module._non_blocking = True  # mmpretrain's and mmseg's do not take it from a config
        if self.distributed and model_wrapper_cfg is None:
            model_wrapper_cfg = ddp_config(self.cfg.get('find_unused_parameters', False))
        wrapped = super().wrap_model(model_wrapper_cfg, model)
        if self.cfg.get('bf16_gradients', False) and isinstance(wrapped, DistributedDataParallel):
            compress_gradients(wrapped)
        return wrapped

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a loader whose workers fit the machine; the data do not depend on their number."""
        if isinstance(dataloader, dict):
            dataloader = copy.deepcopy(dataloader)
            clamp_workers(dataloader)
        return Runner.build_dataloader(dataloader, seed, diff_rank_seed)

    def register_hooks(self, default_hooks: dict | None = None, custom_hooks: list | None = None) -> None:
        """Register a config's hooks, :class:`SafeCheckpointHook` for MMEngine's, and two of its own."""
        checkpoint: Any = (default_hooks or {}).get('checkpoint', dict(type='CheckpointHook', interval=1))
        plain = ('CheckpointHook', 'mmengine.CheckpointHook', CheckpointHook)
        if isinstance(checkpoint, dict) and checkpoint.get('type') in plain:
            checkpoint = {**checkpoint, 'type': 'SafeCheckpointHook'}
        super().register_hooks({**(default_hooks or {}), 'checkpoint': checkpoint}, custom_hooks)
        self.register_hook(BroadcastStatisticsHook())
        self.register_hook(SingleImageHook())

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        return super().build_train_loop(exact_loop(loop) if isinstance(loop, dict) else loop)

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        return as_evaluation(super().build_val_loop(loop))

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        return as_evaluation(super().build_test_loop(loop))

    def scale_lr(self, optim_wrapper: OptimWrapper, auto_scale_lr: dict | None = None) -> None:
        """Keep the total batch, or scale the learning rate where it cannot be kept."""
        asked = auto_scale_lr or {}
        if asked.get('enable', False) or 'base_batch_size' not in asked:
            super().scale_lr(optim_wrapper, auto_scale_lr)
        else:
            keep_total_batch(self, optim_wrapper, asked['base_batch_size'])

    def train(self) -> nn.Module:
        """Train, alone in the work dir; however it ends, signals do what they did before and workers end."""
        if not torch.cuda.is_available():
            keep_freed_memory()
        try:
            config = config_name(self.cfg.filename) if self.cfg.filename else ''
            with lock_work_dir(self.work_dir, config), in_step_with_peers():
                return super().train()
        except ValueError as error:
            if TORCH_MESSAGE not in str(error):
                raise
            raise ValueError(single_value_message(self.train_dataloader)) from error
        finally:
            for hook in self.hooks:
                if isinstance(hook, StopOnSignalHook):
                    hook.restore_signals()
            end_workers(self)

    def val(self) -> dict:
        self._needs_whole_model = True
        try:
            with in_step_with_peers():
                return super().val()
        finally:
            end_workers(self)

    def test(self) -> dict:
        self._needs_whole_model = True
        try:
            with in_step_with_peers():
                return super().test()
        finally:
            end_workers(self)
