"""Stage 3: the teacher in bf16 on the GPU beside float32 on the CPU."""

import torch
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS

from mvp_mm.models.mvp.mvp_loss import token_cosines

from .measure import BF16, CUDA
from .report import Report


def run(report: Report, scale: str) -> None:
    """Compare the targets of 8 random images."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    settings = dict(type='CLIPTargetGenerator', model_name='ViT-B-16-quickgelu', pretrained=None)
    teacher = MODELS.build(settings)
    images = torch.randn(8 if scale == 'full' else 2, 3, 224, 224)
    expected = teacher(images)
    teacher.to(CUDA)
    with torch.autocast('cuda', dtype=BF16):
        found = teacher(images.to(CUDA)).cpu()
    report.add('teacher computes in', str(found.dtype)[6:])
    cosines = token_cosines(found, expected)
    report.at_least('teacher bf16 against float32, mean cosine', cosines.mean().item(), 0.9999)
    report.at_least('teacher bf16 against float32, least cosine', cosines.min().item(), 0.999)
    exact = token_cosines(teacher(images.to(CUDA)).cpu(), expected)
    report.at_least('teacher float32 on the GPU, least cosine', exact.min().item(), 0.99999)
