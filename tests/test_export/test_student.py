import importlib.util
import json

import pytest
import torch
from mmpretrain.registry import MODELS

from mvp_mm.export import export
from mvp_mm.export.student import load_student

WORDS = ['a', 'red', 'blue', 'star', 'ring']


@pytest.fixture
def rils(tmp_path):
    """A RILS and its checkpoint."""
    text = dict(context_length=8, vocab_size=8, width=16, heads=2, layers=1)
    text['tokenizer_kwargs'] = dict(words=WORDS)
    config = tmp_path / 'text.json'
    config.write_text(json.dumps(dict(embed_dim=24, text_cfg=text)))
    arch = dict(embed_dims=48, num_layers=2, num_heads=4, feedforward_channels=192)
    plain = dict(use_rel_pos_bias=False, use_abs_pos_emb='sincos', layer_scale_init_value=0)
    vit = dict(type='MVPViT', arch=arch, img_size=32, patch_size=8, final_norm=True, out_type='raw', **plain)
    torch.manual_seed(0)
    model = MODELS.build(dict(type='RILS', backbone=vit, text_encoder=str(config))).eval()
    with torch.no_grad():
        for name, value in model.backbone.named_parameters():
            value.add_(0.1 * torch.randn_like(value) * ('bias' in name))
    path = tmp_path / 'rils.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict(speech=model.speech())), path)
    return model, str(path)


@torch.no_grad()
def test_a_student_of_rils(rils):
    model, path = rils
    student, _ = load_student(path)
    assert student.is_plain and student.speech.backbone['bias'] is True
    images = torch.randn(2, 3, 32, 32)
    found, (cls, patches) = student(images), model.embed_image(images)
    assert torch.allclose(found['tokens'], model(images)[0], atol=1e-5)
    assert torch.allclose(found['cls_embedding'], cls, atol=1e-5)
    assert torch.allclose(found['patch_embeddings'], patches, atol=1e-5)


@pytest.mark.parametrize(
    'target',
    [
        'safetensors',
        'timm',
        'mmpretrain',
        'mmseg',
        'transformers',
        pytest.param('onnx', marks=pytest.mark.slow),
    ],
)
def test_every_library_takes_it(target, rils, tmp_path):
    """``export`` compares what each library computes."""
    for package in {'transformers': ['transformers'], 'onnx': ['onnx', 'onnxruntime']}.get(target, []):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f'{package} is not installed')
    suffix = dict(transformers='', onnx='.onnx', safetensors='.safetensors', timm='.safetensors')
    out = tmp_path / f'out{suffix.get(target, ".pth")}'
    export(target, rils[1], out)
    assert out.exists()
