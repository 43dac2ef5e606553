"""What the command ``mvp-mm`` does, over the package's own configs and tools."""

from .segmentation import segment
from .training import finetune, pretrain, probe

__all__ = ['finetune', 'pretrain', 'probe', 'segment']
