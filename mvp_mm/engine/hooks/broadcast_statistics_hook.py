"""Validate one model in all processes, where batch normalisation keeps statistics in each."""

import torch.distributed
from mmengine.dist import is_distributed
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _NormBase


@HOOKS.register_module()
class BroadcastStatisticsHook(Hook):
    """Give every process the first one's running statistics before validation.

    Plain BatchNorm counts in each process only what that process sees (SyncBN does not), so each would
    validate its part of the images with another model. The first process's are those that a checkpoint
    holds; so the figures are those of the checkpoint, and they do not depend on when a run was resumed,
    as they would if MMEngine's ``SyncBuffersHook`` averaged.
    """

    def before_val_epoch(self, runner: Runner) -> None:
        """Broadcast running means, variances and counts."""
        if not is_distributed():
            return
        for module in runner.model.modules():
            if isinstance(module, _NormBase):
                for buffer in module.buffers(recurse=False):
                    torch.distributed.broadcast(buffer, src=0)
