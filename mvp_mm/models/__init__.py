"""What learns: methods with their losses and heads, students, teachers, prompts."""

from ..renamed import old_names
from .backbones.mvp_vit import MVPViT as MVPViT
from .backbones.timm_student import TimmStudent as TimmStudent
from .clip.clip import CLIP as CLIP
from .clip.text_encoder import TextEncoder as TextEncoder
from .data_preprocessor import MVPDataPreprocessor as MVPDataPreprocessor
from .dino.dino import DINO as DINO
from .mvp.multi_teacher_mvp import MultiTeacherMVP as MultiTeacherMVP
from .mvp.mvp import MVP as MVP
from .mvp.mvp_loss import MVPLoss as MVPLoss
from .mvp.mvp_neck import MVPNeck as MVPNeck
from .mvp.mvp_necks import MVPNecks as MVPNecks
from .prompts.cocoop import CoCoOp as CoCoOp
from .prompts.coop import CoOp as CoOp
from .prompts.prompt_classifier import PromptClassifier as PromptClassifier
from .rils.contrastive_loss import ContrastiveLoss as ContrastiveLoss
from .rils.image_projection import ImageProjection as ImageProjection
from .rils.mae_clip import MAECLIP as MAECLIP
from .rils.reconstruction_loss import LanguageReconstructionLoss as LanguageReconstructionLoss
from .rils.rils import RILS as RILS
from .rils.rils_decoder import RILSDecoder as RILSDecoder
from .speaking.speaking_student import SpeakingStudent as SpeakingStudent
from .target_generators import CLIPTargetGenerator as CLIPTargetGenerator
from .target_generators import PixelTargetGenerator as PixelTargetGenerator
from .target_generators import TargetGenerator as TargetGenerator
from .target_generators import TargetGenerators as TargetGenerators
from .target_generators import TimmTargetGenerator as TimmTargetGenerator
from .target_generators import TransformersTargetGenerator as TransformersTargetGenerator

__getattr__ = old_names(__name__, CLIPTeacher='CLIP', DINOTeacher='DINO')
