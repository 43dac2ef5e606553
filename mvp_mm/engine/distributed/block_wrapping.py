"""What FSDP gathers at a time."""

from mmengine.registry import FUNCTIONS
from torch import nn

from ...models.backbones.mvp_block import MVPBlock


@FUNCTIONS.register_module()
def each_block(module: nn.Module, recurse: bool, nonwrapped_numel: int) -> bool:
    """FSDP's ``auto_wrap_policy`` for a ViT: the parameters of one block are gathered at a time.

    Args:
        module: Any module of the model.
        recurse: Whether the question is to look into it.
        nonwrapped_numel: Its parameters; not used.

    Returns:
        Whether to look into it, or to shard it as one.
    """
    return recurse or isinstance(module, MVPBlock)
