"""Run models with MMEngine: configs, the runner, loops, optimisers, hooks and checkpoints."""

from .build_runner import build_runner
from .checkpoint.safe_checkpoint_hook import SafeCheckpointHook
from .checkpoint.safe_loading import register_safe_loading
from .checkpoint.teacher_file import save_teacher
from .command_line import (
    OptionAction,
    argument_parser,
    existing_checkpoint,
    positive_float,
    positive_int,
    run_command_line,
)
from .config import (
    apply_options,
    load_config,
    require_training,
    set_loader_option,
    use_bf16,
    use_test_time_augmentation,
)
from .distributed.data_parallel import each_block
from .hooks.broadcast_statistics_hook import BroadcastStatisticsHook
from .hooks.class_count_hook import ClassCountHook
from .hooks.stop_on_signal_hook import StopOnSignalHook
from .hooks.throughput_hook import ThroughputHook
from .hooks.unreadable_images_hook import UnreadableImagesHook
from .loops.evaluator_loop import EvaluatorLoop
from .loops.exact_epoch_loop import ExactEpochLoop
from .loops.exact_iter_loop import ExactIterLoop
from .mvp_runner import MVPRunner
from .optim.linear_probe_optim_wrapper_constructor import LinearProbeOptimWrapperConstructor
from .optim.mvp_optim_wrapper import MVPOptimWrapper
from .optim.mvp_optim_wrapper_constructor import MVPOptimWrapperConstructor
from .optim.total_batch import TotalBatchPlan, plan_total_batch

__all__ = [
    'BroadcastStatisticsHook',
    'ClassCountHook',
    'EvaluatorLoop',
    'ExactEpochLoop',
    'ExactIterLoop',
    'LinearProbeOptimWrapperConstructor',
    'MVPOptimWrapper',
    'MVPOptimWrapperConstructor',
    'MVPRunner',
    'OptionAction',
    'SafeCheckpointHook',
    'StopOnSignalHook',
    'ThroughputHook',
    'TotalBatchPlan',
    'UnreadableImagesHook',
    'apply_options',
    'argument_parser',
    'build_runner',
    'each_block',
    'existing_checkpoint',
    'load_config',
    'plan_total_batch',
    'positive_float',
    'positive_int',
    'register_safe_loading',
    'require_training',
    'run_command_line',
    'save_teacher',
    'set_loader_option',
    'use_bf16',
    'use_test_time_augmentation',
]
