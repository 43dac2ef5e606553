"""The classifiers of a linear probe: alone or together, and on which features."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn
from torch.nn import functional as F

from mvp_mm.models.linear_probe_head import LinearProbeHead

WIDTH, CLASSES, BLOCKS = 6, 3, (1, 3)
OPTIMISER = dict(
    type='MVPOptimWrapper',
    precision='float32',
    optimizer=dict(type='AdamW', lr=0.01, weight_decay=1e-4),
    constructor='LinearProbeOptimWrapperConstructor',
)


class Probed(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.head = head


def batches(steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        feats = tuple(torch.randn(8, 5, WIDTH, generator=generator) for _ in BLOCKS)
        labels = torch.randint(CLASSES, (8,), generator=generator)
        yield feats, [DataSample().set_gt_label(label) for label in labels]


def train(head, block_columns=slice(None)):
    wrapper = build_optim_wrapper(Probed(head), OPTIMISER)
    for feats, samples in batches(20):
        wrapper.update_params(head.loss(feats[block_columns], samples)['loss'])
    return wrapper


def test_each_classifier_learns_as_if_alone():
    torch.manual_seed(0)
    together = LinearProbeHead(CLASSES, WIDTH, BLOCKS, lr_multipliers=(0.5, 2.0))
    alone = {}
    for row, block in enumerate(BLOCKS):
        for column, factor in enumerate((0.5, 2.0)):
            head = LinearProbeHead(CLASSES, WIDTH, (block,), lr_multipliers=(factor,))
            head.classifiers[0][0].load_state_dict(together.classifiers[row][column].state_dict())
            alone[row, column] = head
    before = {name: value.clone() for name, value in together.state_dict().items()}
    train(together)
    assert all((before[name] != value).any() for name, value in together.state_dict().items())
    for (row, column), head in alone.items():
        train(head, slice(row, row + 1))
        for name, value in head.classifiers[0][0].state_dict().items():
            torch.testing.assert_close(
                together.classifiers[row][column].state_dict()[name], value, rtol=1e-5, atol=1e-7
            )


def test_learning_rates_and_weight_decay():
    head = LinearProbeHead(CLASSES, WIDTH, BLOCKS, lr_multipliers=(0.1, 1.0, 3.0))
    groups = build_optim_wrapper(Probed(head), OPTIMISER).optimizer.param_groups
    assert [group['lr'] for group in groups] == pytest.approx([0.001, 0.01, 0.03])
    assert all(group['weight_decay'] == 1e-4 for group in groups)  # on biases too
    for column, group in enumerate(groups):
        expected = {id(p) for row in head.classifiers for p in row[column].parameters()}
        assert {id(p) for p in group['params']} == expected


def test_what_the_optimiser_refuses():
    head = LinearProbeHead(CLASSES, WIDTH, BLOCKS)
    model = Probed(head)
    model.backbone = nn.Linear(2, 2)
    with pytest.raises(ValueError, match='backbone.weight would be trained.*frozen_stages'):
        build_optim_wrapper(model, OPTIMISER)
    with pytest.raises(ValueError, match='LinearProbeHead'):
        build_optim_wrapper(Probed(nn.Linear(2, 2)), OPTIMISER)
    with pytest.raises(ValueError, match='lr_multipliers'):
        build_optim_wrapper(Probed(head), dict(OPTIMISER, paramwise_cfg=dict(layer_decay_rate=0.5)))


@pytest.mark.parametrize('pooling', ['both', 'cls', 'mean'])
def test_features_and_scores(pooling):
    head = LinearProbeHead(CLASSES, WIDTH, BLOCKS, lr_multipliers=(1.0, 2.0), pooling=pooling)
    (feats, samples), *_ = batches(1)
    tokens = feats[1]
    parts = dict(cls=[tokens[:, 0]], mean=[tokens[:, 1:].mean(1)])
    features = torch.cat(parts.get(pooling, parts['cls'] + parts['mean']), dim=1)
    classifier = head.classifiers[1][0]
    scores = head(feats)
    assert scores.shape == (8, 2, 2, CLASSES)
    torch.testing.assert_close(scores[:, 1, 0], features @ classifier.weight.T + classifier.bias)
    labels = torch.cat([sample.gt_label for sample in samples])
    expected = sum(F.cross_entropy(scores[:, i, j], labels) for i in range(2) for j in range(2))
    losses = head.loss(feats, samples)
    torch.testing.assert_close(losses['loss'], expected)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(head(feats), scores)  # float32 also under autocast


def test_starts_as_beits():
    head = LinearProbeHead(1000, 768, (0,))
    linear = head.classifiers[0][0]
    assert linear.weight.shape == (1000, 1536)
    assert linear.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert not linear.bias.any()


def test_what_the_head_refuses():
    for wrong, match in (
        (dict(pooling='max'), 'pooling'),
        (dict(blocks=(3, 1)), 'ascending'),
        (dict(blocks=()), 'ascending'),
        (dict(lr_multipliers=(0.0, 1.0)), 'positive'),
    ):
        with pytest.raises(ValueError, match=match):
            LinearProbeHead(**{**dict(num_classes=CLASSES, in_channels=WIDTH, blocks=BLOCKS), **wrong})
    head = LinearProbeHead(CLASSES, WIDTH, BLOCKS)
    with pytest.raises(ValueError, match='out_indices'):
        head((torch.zeros(1, 5, WIDTH),))
    with pytest.raises(ValueError, match="out_type='raw'"):
        head((torch.zeros(1, WIDTH),) * 2)


def test_frozen_backbone_gives_no_graph():
    backbone = MODELS.build(
        dict(
            type='MVPViT',
            arch=dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48),
            img_size=32,
            patch_size=8,
            out_type='raw',
            out_indices=(0, 1),
            frozen_stages=2,
            drop_path_rate=0.5,
        )
    )
    backbone.train()
    assert not any(module.training for layer in backbone.layers for module in layer.modules())
    images = torch.randn(2, 3, 32, 32)
    feats = backbone(images)
    assert not any(tokens.requires_grad for tokens in feats)
    assert all(torch.equal(a, b) for a, b in zip(feats, backbone(images), strict=True))
    last = backbone.layers[1](feats[0], (4, 4))
    assert torch.equal(feats[1], last)  # no norm after the block
