import pytest
import torch
from mmengine.config import ConfigDict
from mmpretrain.registry import MODELS
from torch import nn

from mvp_mm.models import MVPViT
from mvp_mm.models.student import Student, student_of, task_of

ARCH = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)


def vit(**settings):
    torch.manual_seed(0)
    return MVPViT(ARCH, img_size=(32, 16), patch_size=8, **settings).eval()


def test_mvp_vit_is_a_student():
    student = vit()
    assert isinstance(student, Student) and student.embed_dims == 24
    assert (student.img_size, student.patch_size) == ((32, 16), 8)
    (images,) = student.example_inputs(batch=3)
    assert images.shape == (3, 3, 32, 16)
    cls, patches = student.encode_image(images)
    assert cls.shape == (3, 24) and patches.shape == (3, 8, 24)


@pytest.mark.parametrize(
    'settings',
    [
        dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True, final_norm=True, with_cp=True),
        dict(out_type='featmap', out_indices=[0]),
        dict(out_type='avg_featmap', with_mask_token=True, final_norm=True),
    ],
)
def test_encode_image_is_the_last_blocks_forward(settings):
    """Masked and whole, whatever the module itself is told to return."""
    student = vit(**settings)
    raw = vit(**{**settings, 'out_type': 'raw', 'out_indices': -1})
    raw.load_state_dict(student.state_dict(), strict=False)
    images = torch.randn(2, 3, 24, 40)
    masks = [None] if student.mask_token is None else [None, torch.rand(2, 3, 5) < 0.5]
    for mask in masks:
        cls, patches = student.encode_image(images, mask)
        (tokens,) = raw(images, mask)
        assert torch.equal(torch.cat([cls[:, None], patches], dim=1), tokens)


def test_a_student_without_cls():
    student = vit(with_cls_token=False, use_rel_pos_bias=False, use_abs_pos_emb=True)
    cls, patches = student.encode_image(*student.example_inputs())
    assert cls is None and patches.shape == (1, 8, 24)


def test_gradient_checkpointing_recomputes_blocks_of_every_way():
    student, calls = vit(with_cp=True), []
    student.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    images = torch.randn(1, 3, 32, 16)
    student(images)[0].sum().backward()
    student.encode_image(images)[1].sum().backward()
    (*_, (_, tokens)) = student.blockwise(images)
    tokens.sum().backward()
    assert len(calls) == 6


def test_student_of():
    student = vit()
    holder = nn.Module()
    holder.backbone = student
    assert student_of(student) is student_of(holder) is student
    with pytest.raises(ValueError, match='Linear has no student'):
        student_of(nn.Linear(1, 1))


def test_what_models_do_and_take(tiny_clip):
    backbone = dict(type='MVPViT', arch=ARCH, img_size=32, patch_size=8)
    classifier = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=backbone,
            head=dict(type='LinearClsHead', num_classes=2, in_channels=24),
        )
    )
    pretraining = MODELS.build(
        ConfigDict(
            type='MVP',
            backbone=dict(backbone, use_rel_pos_bias=False, use_shared_rel_pos_bias=True, out_type='raw'),
            neck=dict(type='MVPNeck', in_channels=24, out_channels=24),
            target_generator=dict(
                type='CLIPTargetGenerator', model_name=tiny_clip('task'), pretrained=None, patch_size=8
            ),
        )
    )
    assert [task_of(model) for model in (classifier, pretraining, vit())] == [
        'classification',
        'pretraining',
        'features',
    ]
    assert pretraining.batch_coupled is False
    (images,) = pretraining.example_inputs()
    assert pretraining(images)[0].shape == (1, 17, 24)
