"""What learns: the algorithm, the student, the teachers, the neck, the loss."""

from .data_preprocessor import MVPDataPreprocessor
from .mvp import MVP
from .mvp_loss import MVPLoss
from .mvp_neck import MVPNeck
from .mvp_vit import MVPViT
from .target_generators import (
    CLIPTargetGenerator,
    PixelTargetGenerator,
    TargetGenerator,
    TimmTargetGenerator,
)
from .teachers import CLIPTeacher, DINOTeacher

__all__ = [
    'MVP',
    'CLIPTargetGenerator',
    'CLIPTeacher',
    'DINOTeacher',
    'MVPDataPreprocessor',
    'MVPLoss',
    'MVPNeck',
    'MVPViT',
    'PixelTargetGenerator',
    'TargetGenerator',
    'TimmTargetGenerator',
]
