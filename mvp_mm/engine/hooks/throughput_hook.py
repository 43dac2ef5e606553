import resource
import sys
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Log ``images_per_second`` (all processes, data loading included) and ``host_memory`` (peak, MiB)."""

    priority = 'NORMAL'  # registered after MMEngine's timer, before its logger

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any, outputs: Any = None) -> None:
        seconds = runner.message_hub.get_scalar('train/time').current()
        # not of the inputs, which are a list of views where a sample has several
        images = len(data_batch.get('data_samples') or data_batch['inputs']) * get_world_size()
        runner.message_hub.update_scalar('train/images_per_second', images / seconds)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        unit = 2**20 if sys.platform == 'darwin' else 2**10  # bytes there, KiB on Linux
        runner.message_hub.update_scalar('train/host_memory', peak / unit)
