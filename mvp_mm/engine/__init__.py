"""Run models with MMEngine: configs, the runner, loops, optimisers, hooks and checkpoints."""

from .build_runner import build_runner as build_runner
from .build_runner import resume_last as resume_last
from .checkpoint.safe_checkpoint import register_safe_loading as register_safe_loading
from .checkpoint.safe_checkpoint_hook import SafeCheckpointHook as SafeCheckpointHook
from .checkpoint.teacher_file import save_teacher as save_teacher
from .command_line import OptionAction as OptionAction
from .command_line import argument_parser as argument_parser
from .command_line import existing_checkpoint as existing_checkpoint
from .command_line import positive_float as positive_float
from .command_line import positive_int as positive_int
from .command_line import run_command_line as run_command_line
from .config import apply_options as apply_options
from .config import is_config_file as is_config_file
from .config import load_config as load_config
from .config import read_config as read_config
from .config import require_training as require_training
from .config import set_loader_option as set_loader_option
from .config import train_only as train_only
from .config import use_bf16 as use_bf16
from .config import use_test_time_augmentation as use_test_time_augmentation
from .hooks.broadcast_statistics_hook import BroadcastStatisticsHook as BroadcastStatisticsHook
from .hooks.class_count_hook import ClassCountHook as ClassCountHook
from .hooks.evaluator_state_hook import EvaluatorStateHook as EvaluatorStateHook
from .hooks.learnt_prompts_hook import LearntPromptsHook as LearntPromptsHook
from .hooks.stop_on_signal_hook import StopOnSignalHook as StopOnSignalHook
from .hooks.throughput_hook import ThroughputHook as ThroughputHook
from .hooks.unreadable_images_hook import UnreadableImagesHook as UnreadableImagesHook
from .loops.evaluator_loop import EvaluatorLoop as EvaluatorLoop
from .loops.exact_epoch_loop import ExactEpochLoop as ExactEpochLoop
from .loops.exact_iter_loop import ExactIterLoop as ExactIterLoop
from .mvp_runner import MVPRunner as MVPRunner
from .optim.linear_probe_optim_wrapper_constructor import (
    LinearProbeOptimWrapperConstructor as LinearProbeOptimWrapperConstructor,
)
from .optim.mvp_optim_wrapper import MVPOptimWrapper as MVPOptimWrapper
from .optim.mvp_optim_wrapper_constructor import MVPOptimWrapperConstructor as MVPOptimWrapperConstructor
from .optim.total_batch import plan_total_batch as plan_total_batch
