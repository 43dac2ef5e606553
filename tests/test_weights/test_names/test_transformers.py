"""Weights of transformers' BEiT in MVPViT: names of files and of modules, every kind of its models."""

import pytest
import torch
from safetensors.torch import load_file

from mvp_mm.models import MVPViT
from mvp_mm.weights import load
from mvp_mm.weights.bias_tables import resize_table
from mvp_mm.weights.names.transformers import names_from_transformers, names_to_transformers

transformers = pytest.importorskip('transformers', reason='transformers comes with the extra export')

ARCH = dict(embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=192)
SHARED = dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True)
PRETRAINING = dict(use_shared_relative_position_bias=True, use_mask_token=True)


def beit(model_class='BeitModel', **changes):
    config = transformers.BeitConfig(
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=192,
        image_size=64,
        patch_size=8,
        layer_norm_eps=1e-6,  # of BEiT's authors; transformers' own default is 1e-12
        vocab_size=16,
        **changes,
    )
    torch.manual_seed(0)
    model = getattr(transformers, model_class)(config).eval()
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.normal_(std=1.0 if name.endswith('table') else 0.2)
    return model


def student(**flags):
    return MVPViT(**{**dict(arch=ARCH, img_size=64, patch_size=8, out_type='raw'), **flags}).eval()


def image():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def close(ours, theirs):
    return (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max().clamp(min=1)


KINDS = {
    'shared table': (dict(**PRETRAINING, use_mean_pooling=False), dict(**SHARED, final_norm=True)),
    'table a block': (dict(use_relative_position_bias=True), dict(out_type='avg_featmap')),
    'absolute positions': (
        dict(use_absolute_position_embeddings=True, use_mean_pooling=False),
        dict(use_abs_pos_emb=True, use_rel_pos_bias=False, final_norm=True),
    ),
    'no layer scale': (
        dict(use_relative_position_bias=True, layer_scale_init_value=0.0),
        dict(out_type='avg_featmap', layer_scale_init_value=0),
    ),
}


@pytest.mark.parametrize('source', ['folder', 'file', 'modules'])
@pytest.mark.parametrize('kind', KINDS)
@torch.no_grad()
def test_outputs_are_equal(kind, source, tmp_path):
    theirs, ours = KINDS[kind]
    model, vit = beit(**theirs), student(**ours)
    if source == 'modules':
        torch.save(model.state_dict(), tmp_path / 'a.pth')
        report = load(vit, str(tmp_path / 'a.pth'))
    else:
        model.save_pretrained(tmp_path)
        report = load(vit, str(tmp_path / ('model.safetensors' if source == 'file' else '')))
    assert report.format == 'transformers' and not report.missing and not report.unexpected
    out = model(image())
    pooled = vit.out_type == 'avg_featmap'
    assert close(vit(image())[0], out.pooler_output if pooled else out.last_hidden_state)


@torch.no_grad()
def test_a_classifier(tmp_path):
    model = beit('BeitForImageClassification', use_relative_position_bias=True, num_labels=4)
    model.save_pretrained(tmp_path)
    vit = student(out_type='avg_featmap')
    assert not load(vit, str(tmp_path)).missing
    assert close(model.classifier(vit(image())[0]), model(image()).logits)


@torch.no_grad()
def test_masked_images(tmp_path):
    """The model for masked images, whose final norm lies outside of its backbone."""
    model = beit('BeitForMaskedImageModeling', **PRETRAINING)
    model.save_pretrained(tmp_path)
    vit = student(**SHARED, final_norm=True)
    assert not load(vit, str(tmp_path)).missing
    mask = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.4
    predicted = model.lm_head(vit(image(), mask)[0][:, 1:])
    assert close(predicted, model(image(), bool_masked_pos=mask.flatten(1)).logits)


def test_shared_table_is_expanded_and_resized(tmp_path):
    model = beit(**PRETRAINING)
    model.save_pretrained(tmp_path)
    vit = student(img_size=96, out_type='featmap')
    report = load(vit, str(tmp_path))
    assert len(report.expanded) == len(report.resized) == 3
    (table,) = (value for name, value in model.state_dict().items() if name.endswith('table'))
    for layer in vit.layers:
        assert torch.equal(layer.attn.relative_position_bias_table, resize_table(table, (8, 8), (12, 12)))


def test_the_way_back_gives_the_same_file(tmp_path):
    for kind, (theirs, _) in KINDS.items():
        folder = tmp_path / kind.replace(' ', '_')
        beit(**theirs).save_pretrained(folder)
        state = load_file(folder / 'model.safetensors')
        again = names_to_transformers(names_from_transformers(state))
        assert set(again) == set(state)
        assert all(torch.equal(value, state[name]) for name, value in again.items())


def test_refused(tmp_path):
    model = beit(use_relative_position_bias=True)
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / 'model.safetensors')
    del state['encoder.layer.1.attention.attention.key.weight']
    torch.save(state, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='has no layers.1.attn.qkv.weight'):
        load(student(), str(tmp_path / 'a.pth'))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='a folder without model.safetensors or pytorch_model.bin'):
        load(student(), str(tmp_path / 'empty'))
