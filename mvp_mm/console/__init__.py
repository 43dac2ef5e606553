"""What the command ``mvp-mm`` does, over the package's own configs and tools."""

from .training import finetune, pretrain, probe, segment

__all__ = ['finetune', 'pretrain', 'probe', 'segment']
