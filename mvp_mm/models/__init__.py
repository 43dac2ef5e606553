"""What learns: the algorithm, the student, the teachers, the neck, the loss."""

from ..renamed import old_names
from .backbones.mvp_vit import MVPViT
from .clip.clip import CLIP
from .clip.text_encoder import TextEncoder
from .data_preprocessor import MVPDataPreprocessor
from .dino.dino import DINO
from .mvp.mvp import MVP
from .mvp.mvp_loss import MVPLoss
from .mvp.mvp_neck import MVPNeck
from .target_generators import CLIPTargetGenerator, PixelTargetGenerator, TargetGenerator, TimmTargetGenerator

__all__ = [
    'MVP',
    'CLIPTargetGenerator',
    'CLIP',
    'DINO',
    'TextEncoder',
    'MVPDataPreprocessor',
    'MVPLoss',
    'MVPNeck',
    'MVPViT',
    'PixelTargetGenerator',
    'TargetGenerator',
    'TimmTargetGenerator',
]

__getattr__ = old_names(__name__, CLIPTeacher='CLIP', DINOTeacher='DINO')
