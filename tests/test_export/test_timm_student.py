"""Students from timm, exported with the head of MVP, and as classifiers."""

import pytest
import torch
from torch import nn

import mvp_mm
from mvp_mm.export import export
from mvp_mm.models import MVP, TimmStudent
from mvp_mm.zoo.entries import CONFIGS

CONV = dict(
    model_name='convnext_atto', img_size=64, model_args=dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))
)
VIT = dict(
    model_name='vit_tiny_patch16_224', img_size=64, model_args=dict(embed_dim=48, depth=2, num_heads=2)
)


@pytest.mark.slow
@pytest.mark.parametrize('arguments', [CONV, VIT])
def test_one_that_speaks(arguments, tmp_path):
    folder = f'{CONFIGS}/teachers/clip_vittiny_scenes'
    student = TimmStudent(**arguments)
    model = MVP(
        backbone=dict(type='TimmStudent', **arguments),
        neck=dict(type='MVPNeck', in_channels=student.embed_dims, out_channels=96),
        target_generator=dict(
            type='CLIPTargetGenerator',
            model_name=f'{folder}.json',
            pretrained=f'{folder}.safetensors',
            patch_size=student.patch_size,
        ),
    )
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(meta=dict(speech=model.speech()), state_dict=model.state_dict()), path)
    for target, suffix in (('onnx', 'onnx'), ('safetensors', 'safetensors')):
        report = export(target, str(path), tmp_path / f'student.{suffix}')
        compared = {name for _, name, _, _ in report.rows}
        assert report.passed and {'tokens', 'cls_embedding', 'patch_embeddings'} <= compared
        assert 'Left out' not in str(report)  # of backbone.network.head, say
    images = torch.randn(2, 3, 64, 64)
    names = ['a circle', 'a star']
    expected = model.eval().zero_shot(images, names)
    assert torch.equal(
        mvp_mm.get_model(str(tmp_path / 'student.safetensors')).zero_shot(images, names), expected
    )
    with pytest.raises(ValueError, match='timm a network of its own'):
        export('mmseg', str(path), tmp_path / 'mmseg.pth')


@pytest.mark.parametrize('arguments', [CONV, VIT])
def test_a_classifier(arguments, tmp_path):
    student = TimmStudent(**arguments, out_type='pooled')
    weights = student.state_dict(prefix='backbone.')
    weights |= nn.Linear(student.pooled_dims, 5).state_dict(prefix='head.fc.')
    torch.save(dict(meta={}, state_dict=weights), tmp_path / 'classifier.pth')
    config = tmp_path / 'classifier.py'
    config.write_text(f'model = dict(backbone={dict(arguments, type="TimmStudent", out_type="pooled")!r})\n')
    report = export('timm', str(tmp_path / 'classifier.pth'), tmp_path / 'timm.pth', config=str(config))
    assert report.passed and {name for _, name, _, _ in report.rows} == {'tokens', 'features', 'logits'}
    assert 'num_classes=5' in str(report)
