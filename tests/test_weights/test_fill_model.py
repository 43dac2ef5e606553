"""Whole models from files that fit and that do not."""

import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn

from mvp_mm.weights.fill_model import fill_whole, start_from

TABLE = 'relative_position_bias_table'


def tiny_classifier(num_classes=2, **backbone):
    arch = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)
    backbone = {**dict(type='MVPViT', arch=arch, img_size=32, patch_size=8), **backbone}
    head = dict(type='LinearClsHead', num_classes=num_classes, in_channels=24)
    return MODELS.build(dict(type='ImageClassifier', backbone=backbone, head=head))


def student():
    """What pre-training saves of the same size."""
    shared = dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True, out_type='raw', final_norm=True)
    vit = tiny_classifier(**shared).backbone
    nn.init.normal_(vit.rel_pos_bias.relative_position_bias_table)
    return {f'backbone.{name}': value for name, value in vit.state_dict().items()}


class TestLoadFrom:
    """``load_from`` before training: the backbone wholly or not at all, and no random tables."""

    @pytest.mark.parametrize('prefix', ['backbone.', ''])
    def test_a_pretraining_checkpoint(self, prefix):
        weights = student()
        model = tiny_classifier()
        head = model.head.fc.weight.clone()
        start_from(model, {name.replace('backbone.', prefix): v for name, v in weights.items()}, 'a.pth')
        for layer in model.backbone.layers:
            assert torch.equal(
                layer.attn.relative_position_bias_table, weights[f'backbone.rel_pos_bias.{TABLE}']
            )
        assert torch.equal(model.head.fc.weight, head)

    def test_a_classifier_of_other_classes(self):
        source, model = tiny_classifier(5), tiny_classifier()
        start_from(model, source.state_dict(), 'a.pth')
        assert torch.equal(model.backbone.cls_token, source.backbone.cls_token)

    def test_without_tables(self):
        weights = tiny_classifier().state_dict()
        del weights[f'backbone.layers.1.attn.{TABLE}']
        with pytest.raises(ValueError, match=f'a.pth does not fit: it has no layers.1.attn.{TABLE}'):
            start_from(tiny_classifier(), weights, 'a.pth')

    def test_nothing_fits(self):
        model = nn.Module()
        model.backbone = nn.Linear(2, 2)
        with pytest.raises(
            ValueError, match='of 2 entries of the model, such as backbone.weight, it has none'
        ):
            start_from(model, {'other.weight': torch.zeros(2, 2)}, 'a.pth')


class TestWhole:
    """What evaluating and resuming ask of a checkpoint."""

    def test_fits(self):
        source, model = tiny_classifier(), tiny_classifier()
        fill_whole(model, source.state_dict(), 'a.pth')
        assert all(torch.equal(a, b) for a, b in zip(source.parameters(), model.parameters(), strict=True))

    def test_other_classes(self):
        with pytest.raises(
            ValueError, match=r'a.pth does not fit: size mismatch for head.fc.weight.*\[5, 24\]'
        ):
            fill_whole(tiny_classifier(), tiny_classifier(5).state_dict(), 'a.pth')

    def test_a_bare_backbone(self):
        with pytest.raises(
            ValueError, match='it has no backbone, no head: it is a bare backbone; train first'
        ):
            fill_whole(tiny_classifier(), tiny_classifier().backbone.state_dict(), 'a.pth')

    def test_one_entry_less_and_one_more(self):
        weights = tiny_classifier().state_dict()
        fc = weights.pop('head.fc.bias')
        with pytest.raises(ValueError, match=r'it has no head.fc.bias \(1 are missing\)'):
            fill_whole(tiny_classifier(), weights, 'a.pth')
        weights |= {'head.fc.bias': fc, 'backbone.layers.2.ln1.weight': torch.ones(24)}
        with pytest.raises(
            ValueError, match='it has backbone.layers.2.ln1.weight, for which the model has no'
        ):
            fill_whole(tiny_classifier(), weights, 'a.pth')

    def test_something_else(self):
        with pytest.raises(ValueError, match='no vision transformer; it holds conv, fc'):
            fill_whole(tiny_classifier(), {'conv.weight': torch.ones(1), 'fc.bias': torch.ones(1)}, 'a.pth')

    def test_another_grid(self):
        source, larger = tiny_classifier(), tiny_classifier(img_size=64)
        fill_whole(larger, source.state_dict(), 'a.pth')
        assert torch.equal(larger.backbone.cls_token, source.backbone.cls_token)
