"""Which modules FSDP shards."""

from mmengine.registry import FUNCTIONS
from torch import nn

from ...models.backbones.mvp_block import MVPBlock


@FUNCTIONS.register_module()
def each_block(module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
    """FSDP ``auto_wrap_policy`` that shards each transformer block on its own (arguments are torch's)."""
    return recurse or isinstance(module, MVPBlock)
