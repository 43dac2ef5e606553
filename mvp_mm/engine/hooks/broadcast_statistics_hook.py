import torch.distributed
from mmengine.dist import is_distributed
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _NormBase


@HOOKS.register_module()
class BroadcastStatisticsHook(Hook):
    """Broadcast the first process's running statistics before validation.

    Plain BatchNorm (unlike SyncBN) sees only its own process's images. The first process's statistics are in
    the checkpoint, so the metrics are the checkpoint's; MMEngine's ``SyncBuffersHook`` averages them.
    """

    def before_val_epoch(self, runner: Runner) -> None:
        if not is_distributed():
            return
        for module in runner.model.modules():
            if isinstance(module, _NormBase):
                for buffer in module.buffers(recurse=False):
                    torch.distributed.broadcast(buffer, src=0)
