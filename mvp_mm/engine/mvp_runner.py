"""MMEngine's runner, with the recipe's total batch kept and CPU processes supported."""

import copy
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process, master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseDataPreprocessor, BaseTTAModel, is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.runner.utils import set_random_seed
from mmengine.visualization import Visualizer
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from ..hardware import core_share
from ..weights.fill_model import fill_whole, start_from
from ..weights.load import local_path
from ..weights.read import renamed, tensors_by_name
from .cached_config_text import OnceFormattedConfig
from .checkpoint.exact_resume import ExactResume
from .checkpoint.resumed_settings import ResumedSettings
from .checkpoint.safe_checkpoint import (
    atomic_write,
    load_checkpoint_file,
    make_plain,
    require_training_state,
    saved_checkpoints,
    verify_checkpoint,
)
from .checkpoint.work_dir_lock import lock_work_dir
from .clamp_workers import fit_loader
from .deferred_message_hub import DeferredMessageHub
from .disk_full_logging import survive_full_disk
from .distributed.collectives import control_group
from .distributed.data_parallel import compress_gradients, ddp_config
from .distributed.process_group import begin_process_group, end_process_group_at_exit, in_step_with_peers
from .hooks.broadcast_statistics_hook import BroadcastStatisticsHook
from .hooks.single_image_hook import TORCHS_WORDS, SingleImageHook, single_value_message
from .hooks.stop_on_signal_hook import StopOnSignalHook
from .loops.evaluation_loop import as_evaluation
from .loops.evaluator_loop import use_evaluators
from .optim.freed_memory import keep_freed_memory
from .optim.total_batch import counted_processes, plan_total_batch, stretch_iterations

# What is built where a config names one of MMEngine's loops.
EXACT_LOOPS = {
    **dict.fromkeys(
        ('EpochBasedTrainLoop', 'mmengine.EpochBasedTrainLoop', EpochBasedTrainLoop), 'ExactEpochLoop'
    ),
    **dict.fromkeys(
        ('IterBasedTrainLoop', 'mmengine.IterBasedTrainLoop', IterBasedTrainLoop), 'ExactIterLoop'
    ),
}


@RUNNERS.register_module()
class MVPRunner(Runner):
    """The runner behind this package's tools.

    It differs from MMEngine's in thirteen ways. It keeps ``auto_scale_lr.base_batch_size`` images an
    optimiser step by gradient accumulation (MMEngine alone silently trains with another total batch on
    another number of GPUs); ``auto_scale_lr.enable=True`` asks for MMEngine's rule instead, and a config
    without ``base_batch_size`` is taken as it stands. Several processes run on a CPU, with gloo, where
    MMEngine looks for a GPU. They validate with the same statistics of batch normalisation
    (:class:`BroadcastStatisticsHook`), and each draws its own numbers in training. Validation and test
    multiply in TF32 on CUDA. A loader takes no more workers than there are cores. A run that is resumed is
    the one that was never stopped (:class:`ExactResume`); if its config has changed, it goes on by the new
    settings and says which (:class:`ResumedSettings`). One training at a time has a work dir
    (:func:`lock_work_dir`). Two runs that one process begins in one second have logs of their own, where
    MMEngine's second one writes into the first one's. What is logged is read when the log wants it, not in
    every iteration (:class:`DeferredMessageHub`). The config's text is formatted once, not with every
    checkpoint (:class:`OnceFormattedConfig`). And no file that it loads can run code: its own checkpoints
    hold plain data and are written whole or not at all (:class:`SafeCheckpointHook`), a damaged last one is
    passed over when a run goes on, and one that does not fill the model is an error where it is to be
    evaluated or gone on from.
    """

    # What the checkpoint that is loaded next must do: fill all of the model, and have these entries.
    _needs_whole_model = False
    _required_state: tuple[str, ...] = ()
    # What the checkpoint that was loaded last says of the random states.
    _restart_state: dict | None = None
    # How the run that is resumed goes on where its config has changed.
    _resumed_settings: ResumedSettings | None = None
    # How many runs this process has begun in a second; the same in all processes of a run.
    _runs_of_second: ClassVar[Counter[str]] = Counter()

    @classmethod
    def from_cfg(cls, cfg: Config | dict) -> Runner:
        """MMEngine's; the config's text is formatted once (:class:`OnceFormattedConfig`)."""
        if isinstance(cfg, Config):
            use_evaluators(cfg)
        return super().from_cfg(OnceFormattedConfig.of(cfg) if isinstance(cfg, Config) else cfg)

    def setup_env(self, env_cfg: dict) -> None:
        """Start gloo before MMEngine reaches for CUDA; let restarted processes find one another."""
        begin_process_group(self._launcher, env_cfg.get('dist_cfg'))
        super().setup_env(env_cfg)
        end_process_group_at_exit()
        # made here, where all processes come by
        if self.distributed:
            control_group(env_cfg.get('dist_cfg', {}).get('timeout'))
        core_share()
        # MMEngine keeps loggers and visualizers by a name made of this
        second = self._timestamp
        self._runs_of_second[second] += 1
        if self._runs_of_second[second] > 1:
            self._timestamp = f'{second}_{self._runs_of_second[second]}'

    def register_hooks(
        self, default_hooks: dict | None = None, custom_hooks: list[Hook | dict] | None = None
    ) -> None:
        """Every run has the hooks that look after batch normalisation."""
        super().register_hooks(default_hooks, custom_hooks)
        self.register_hook(BroadcastStatisticsHook())
        self.register_hook(SingleImageHook())

    def register_default_hooks(self, hooks: dict[str, Hook | dict] | None = None) -> None:
        """Every run has the checkpoint hook that does not give up a good checkpoint too early."""
        hooks = {'checkpoint': dict(type='CheckpointHook', interval=1), **(hooks or {})}
        checkpoint = hooks['checkpoint']
        plain = ('CheckpointHook', 'mmengine.CheckpointHook', CheckpointHook)
        if isinstance(checkpoint, dict) and checkpoint.get('type') in plain:
            hooks['checkpoint'] = {**checkpoint, 'type': 'SafeCheckpointHook'}
        super().register_default_hooks(hooks)

    def build_message_hub(self, message_hub: dict | None = None) -> MessageHub:
        """One that does not wait for every loss."""
        return DeferredMessageHub.as_instance((message_hub or {}).get('name', self._experiment_name))

    def build_visualizer(self, visualizer: Visualizer | dict | None = None) -> Visualizer:
        """MMEngine's, and neither its files nor those of the log end a training on a full disk."""
        built = super().build_visualizer(visualizer)
        survive_full_disk(self.logger, built)
        return built

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """DDP, on a CPU too; with ``bf16_gradients=True`` in the config it sends half the bytes.

        Nobody waits for pinned batches on their way to the GPU.
        """
        for module in model.modules():
            if isinstance(module, BaseDataPreprocessor):
                module._non_blocking = True  # which mmpretrain's and mmseg's do not take from a config
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
            fit_loader(dataloader)
        return Runner.build_dataloader(dataloader, seed, diff_rank_seed)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """MMEngine's two loops, with exact restarts.

        Raises:
            ValueError: If there is nothing to train.
        """
        for key in ('max_epochs', 'max_iters'):
            length = loop.get(key) if isinstance(loop, dict) else None
            if length is not None and not (isinstance(length, int) and length > 0):
                raise ValueError(f'train_cfg.{key}={length} is no length of a training: give 1 or more')
        if isinstance(loop, dict) and ('type' in loop) != ('by_epoch' in loop):
            loop = dict(loop)
            kind = loop.pop('type', None)
            by_epoch = loop.pop('by_epoch', None)
            if kind is None:
                kind = 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop'
            loop['type'] = EXACT_LOOPS.get(kind, kind)
        return super().build_train_loop(loop)

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
                stretch_iterations(self, plan.accumulation)
        groups = list(optim_wrapper.optimizer.param_groups)
        if optim_wrapper.base_param_settings is not None:
            groups.append(optim_wrapper.base_param_settings)  # what the log shows as base_lr
        for group in groups:
            group['lr'] *= plan.lr_scale

    def set_randomness(
        self, seed: int | None, diff_rank_seed: bool = False, deterministic: bool = False
    ) -> None:
        """MMEngine's; what ``deterministic=True`` asks of cuBLAS is said before cuBLAS starts."""
        if deterministic:
            os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
        super().set_randomness(seed, diff_rank_seed, deterministic)

    def _init_model_weights(self) -> None:
        """MMEngine's, the same in all processes; what is drawn afterwards differs from process to process.

        With one seed for all, MMEngine's processes would drop the same paths and mix their batches alike.
        """
        super()._init_model_weights()
        if self.rank > 0 and not self._randomness_cfg.get('diff_rank_seed', False):
            set_random_seed(self.seed + self.rank)

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """MMEngine's, in TF32 on CUDA (:func:`as_evaluation`)."""
        return as_evaluation(super().build_val_loop(loop))

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """MMEngine's, in TF32 on CUDA (:func:`as_evaluation`)."""
        return as_evaluation(super().build_test_loop(loop))

    def call_hook(self, fn_name: str, **kwargs) -> None:
        """Call the hooks; what they have put into a checkpoint becomes plain data."""
        super().call_hook(fn_name, **kwargs)
        if fn_name == 'before_save_checkpoint':
            make_plain(kwargs['checkpoint'])

    @master_only
    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Write a checkpoint under a temporary name, check it, and give it its name.

        Arguments are MMEngine's. On storage that is no local disk its own way of writing is kept.

        Raises:
            OSError: If it cannot be written; a file of this name is then still what it was.
        """
        what = dict(
            save_optimizer=save_optimizer,
            save_param_scheduler=save_param_scheduler,
            meta=meta,
            by_epoch=by_epoch,
        )
        if file_client_args is not None or backend_args is not None or '://' in str(out_dir):
            super().save_checkpoint(out_dir, filename, file_client_args, backend_args=backend_args, **what)
            return
        with atomic_write(Path(out_dir) / filename) as temporary:
            super().save_checkpoint(str(out_dir), temporary.name, **what)

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = 'cpu',
        strict: bool = False,
        revise_keys: Sequence[tuple[str, str]] = ((r'^module\.', ''),),
    ) -> dict:
        """Load a checkpoint; no code in it is run.

        Args:
            filename: Path or http(s) address.
            map_location: As for ``torch.load``.
            strict: Whether it has to fill the whole model, which :meth:`test`, :meth:`val` and
                :meth:`resume` ask for in any case. Otherwise it has to fill the backbone, and the log says
                what keeps its initialisation.
            revise_keys: Patterns in the names, and what to put in their place.

        Returns:
            The checkpoint.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no checkpoint, or does not fit.
        """
        checkpoint = load_checkpoint_file(filename, map_location)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        weights = tensors_by_name(checkpoint, filename)
        for pattern, replacement in revise_keys:
            weights = renamed(weights, partial(re.sub, pattern, replacement))
        model = self.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        require_training_state(checkpoint, self._required_state, filename)
        meta = checkpoint.get('meta')
        self._restart_state = meta.get('restart') if isinstance(meta, dict) else None
        if self._resumed_settings is not None:
            self._resumed_settings.apply_to(checkpoint, str(filename))
        load = fill_whole if strict or self._needs_whole_model else start_from
        load(model, weights, str(filename))
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: str | Callable = 'default',
    ) -> None:
        """Go on from a checkpoint, by this run's settings where they have changed (:class:`ResumedSettings`).

        Args:
            filename: Path or http(s) address.
            resume_optimizer: Whether to take the optimiser's state from it.
            resume_param_scheduler: Whether to take the schedule's state from it.
            map_location: Default: the CPU, whence the model and the optimiser take everything to where
                they have it. (MMEngine's default puts the whole file on the GPU, where AdamW then waits for
                its step counters.)

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no checkpoint to go on from, or does not fit.
        """
        location = 'cpu' if map_location == 'default' else map_location
        self._needs_whole_model = True
        self._required_state = ('meta', 'message_hub', *(['optimizer'] if resume_optimizer else []))
        seed, sampler = self.seed, self.train_dataloader.sampler
        if resume_optimizer and resume_param_scheduler:
            self._resumed_settings = ResumedSettings(self)
        try:
            super().resume(filename, resume_optimizer, resume_param_scheduler, location)
            if getattr(sampler, 'seed', None) == seed:
                sampler.seed = self.seed  # the one of the checkpoint, also if this run has drawn its own
            if isinstance(self.train_loop, ExactResume):
                self.train_loop.prepare_restart(self._restart_state)
            if self._resumed_settings is not None:
                self._resumed_settings.replay_schedule()
        except (LookupError, AttributeError, AssertionError, TypeError) as error:  # MMEngine checks nothing
            raise ValueError(
                f'training cannot go on from {filename}: its optimiser, schedule or log is not what this '
                f"config's run saves ({type(error).__name__}: {error})"
            ) from error
        finally:
            self._resumed_settings = None

    def load_or_resume(self) -> None:
        """Load or go on from a checkpoint, when none is named from the last good one of the work dir.

        Raises:
            ValueError: If the named one is damaged, or the work dir has checkpoints and none of them is good.
        """
        if not self._has_loaded and self._resume:
            if self._load_from is None:
                self._load_from = self._last_good_checkpoint()
                self._resume = self._load_from is not None
            else:
                verify_checkpoint(local_path(str(self._load_from)))
        super().load_or_resume()

    def train(self) -> nn.Module:
        """Train, alone in the work dir; afterwards signals do what they did before, however it ends.

        On a CPU the process then keeps the memory that it frees (:func:`keep_freed_memory`).

        Raises:
            ValueError: If another training has the work dir, or a batch is too small for batch normalisation.
        """
        if not torch.cuda.is_available():
            keep_freed_memory()
        try:
            with lock_work_dir(self.work_dir), in_step_with_peers():
                return super().train()
        except ValueError as error:
            if TORCHS_WORDS not in str(error):
                raise
            raise ValueError(single_value_message(self.train_dataloader)) from error
        finally:
            for hook in self.hooks:
                if isinstance(hook, StopOnSignalHook):
                    hook.give_back()

    def val(self) -> dict:
        """Validate a checkpoint, which has to fill the whole model."""
        self._needs_whole_model = True
        with in_step_with_peers():
            return super().val()

    def test(self) -> dict:
        """Test a checkpoint, which has to fill the whole model."""
        self._needs_whole_model = True
        with in_step_with_peers():
            return super().test()

    def _last_good_checkpoint(self) -> str | None:
        """Looked for by one process, so that all go on from the same one."""
        found: list = [None, []]
        if is_main_process():
            for path in saved_checkpoints(self.work_dir):
                try:
                    verify_checkpoint(path)
                except ValueError as error:
                    found[1].append(str(error))
                    self.logger.warning(f'{error}. It is passed over; the one before it is tried')
                else:
                    found[0] = str(path)
                    break
        broadcast_object_list(found)
        path, damaged = found
        if path is None and damaged:
            raise ValueError(
                f'none of the {len(damaged)} checkpoints in {self.work_dir} can be gone on from: '
                f'{"; ".join(damaged)}. Give a good one with --resume FILE, or train in another --work-dir'
            )
        return path

    @property
    def _counts_iterations(self) -> bool:
        return isinstance(self._train_loop, IterBasedTrainLoop)
