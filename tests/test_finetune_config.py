"""Every number of the fine-tuning and linear-probe recipes, on what the configs build."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmpretrain.registry import MODELS, TRANSFORMS
from mmpretrain.structures import DataSample
from timm.data.auto_augment import rand_augment_transform
from timm.data.mixup import Mixup as TimmMixup

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
ITERATIONS = 1281167 // 1024  # an epoch of ImageNet-1K, last partial batch dropped
RECIPES = {
    'finetune/vitb16_in1k.py': dict(
        width=768,
        blocks=12,
        rate=4e-3,
        layer_decay=0.65,
        drop_path=0.1,
        layer_scale=0.1,
        epochs=100,
        warmup=20,
    ),
    'finetune/vitl16_in1k.py': dict(
        width=1024,
        blocks=24,
        rate=1e-3,
        layer_decay=0.75,
        drop_path=0.2,
        layer_scale=1e-5,
        epochs=50,
        warmup=5,
    ),
}
each_recipe = pytest.mark.parametrize('name,recipe', RECIPES.items(), ids=['base', 'large'])


def load(name):
    return Config.fromfile(ROOT / 'configs' / name)


def settings(model, optimizer):
    """Learning rate and weight decay of each parameter by name."""
    by_id = {id(p): (g['lr'], g['weight_decay']) for g in optimizer.param_groups for p in g['params']}
    return {name: by_id[id(p)] for name, p in model.named_parameters() if p.requires_grad}


@each_recipe
def test_model(name, recipe):
    cfg = load(name)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    backbone = model.backbone
    assert type(model).__name__ == 'ImageClassifier' and type(backbone).__name__ == 'MVPViT'
    assert (backbone.embed_dims, backbone.num_layers) == (recipe['width'], recipe['blocks'])
    assert backbone.patch_size == 16 and backbone.window == (14, 14)
    assert backbone.out_type == 'avg_featmap' and backbone.ln2.eps == 1e-6 and not backbone.final_norm
    assert backbone.pos_embed is None and backbone.mask_token is None and backbone.rel_pos_bias is None
    assert cfg.model.backbone.layer_scale_init_value == recipe['layer_scale']
    assert cfg.model.backbone.init_cfg == dict(type='Pretrained', checkpoint=None)
    drop_path = [layer.drop_path.drop_prob for layer in backbone.layers]
    assert drop_path == pytest.approx(np.linspace(0, recipe['drop_path'], recipe['blocks']))
    for layer in backbone.layers:
        assert layer.attn.relative_position_bias_table.shape == (27 * 27 + 3, recipe['width'] // 64)
        assert layer.gamma_1 is not None and layer.attn.qkv.bias is None
    head = model.head
    assert (head.fc.in_features, head.fc.out_features) == (recipe['width'], 1000)
    assert head.loss_module.label_smooth_val == 0.1 and head.loss_module.mode == 'original'
    mixup, cutmix = model.data_preprocessor.batch_augments.augments
    assert (type(mixup).__name__, mixup.alpha) == ('Mixup', 0.8)
    assert (type(cutmix).__name__, cutmix.alpha, cutmix.correct_lam) == ('CutMix', 1.0, True)
    assert model.data_preprocessor.batch_augments.probs is None  # evenly: BEiT's switch_prob 0.5, prob 1
    normalise = cfg.model.data_preprocessor
    assert normalise.mean == [123.675, 116.28, 103.53] and normalise.std == [58.395, 57.12, 57.375]
    assert normalise.to_rgb is True


@each_recipe
def test_optimiser(name, recipe):
    cfg = load(name)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    optimizer = wrapper.optimizer
    assert type(wrapper).__name__ == 'MVPOptimWrapper' and type(optimizer) is torch.optim.AdamW
    assert optimizer.defaults['betas'] == (0.9, 0.999) and optimizer.defaults['eps'] == 1e-8
    assert not wrapper.clip_grad_kwargs
    found = settings(model, optimizer)
    assert len(found) == len(list(model.parameters()))  # everything learns
    top = recipe['blocks'] + 1
    depths = {'backbone.cls_token': 0, 'backbone.patch_embed.projection.weight': 0}
    depths |= {f'backbone.layers.{i}.attn.qkv.weight': i + 1 for i in range(recipe['blocks'])}
    table = 'attn.relative_position_bias_table'
    depths |= {f'backbone.layers.{i}.{table}': i + 1 for i in range(recipe['blocks'])}
    depths |= {'backbone.ln2.weight': top, 'head.fc.weight': top, 'head.fc.bias': top}
    assert set(depths.values()) == set(range(recipe['blocks'] + 2))
    for parameter, depth in depths.items():
        expected = recipe['rate'] * recipe['layer_decay'] ** (top - depth)
        assert found[parameter][0] == pytest.approx(expected), parameter
    decaying = {parameter for parameter, (_, decay) in found.items() if decay}
    assert {decay for _, decay in found.values()} == {0.0, 0.05}
    assert decaying == {n for n, p in model.named_parameters() if p.ndim > 1 and 'cls_token' not in n}
    for parameter in ('head.fc.bias', 'backbone.ln2.weight', 'backbone.layers.3.gamma_1'):
        assert parameter not in decaying
    assert f'backbone.layers.3.{table}' in decaying


@each_recipe
def test_schedule_is_beits(name, recipe, assert_beits_schedule):
    """Each group's rate is BEiT's schedule times the group's lr_scale."""
    assert ITERATIONS == 1251
    cfg = load(name)
    assert cfg.train_cfg.max_epochs == recipe['epochs']
    assert cfg.optim_wrapper.optimizer.lr == recipe['rate']
    for factor in (1.0, recipe['layer_decay'] ** 5):
        assert_beits_schedule(cfg, ITERATIONS, recipe['warmup'], floor=1e-6, factor=factor)


@pytest.mark.parametrize('name', [*RECIPES, 'linear_probe/vitb16_in1k.py'])
def test_data(name):
    cfg = load(name)
    assert cfg.auto_scale_lr == dict(base_batch_size=1024, enable=False)
    loader = cfg.train_dataloader
    assert loader.drop_last and loader.sampler == dict(type='EpochSampler', total_batch=1024, shuffle=True)
    assert 1024 % (8 * loader.batch_size) == 0
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert (dataset.type, dataset.data_root) == ('LabelledImages', 'data/imagenet')
        assert dataset.split == ('train' if split == 'train' else 'val')
    load_image, resize, crop, _ = (TRANSFORMS.build(step) for step in cfg.val_dataloader.dataset.pipeline)
    assert (resize.scale, resize.edge) == (256, 'short')
    assert (resize.interpolation, resize.backend) == ('bicubic', 'pillow')
    assert crop.crop_size == (224, 224)
    if 'finetune' in name:
        assert cfg.val_evaluator == cfg.test_evaluator == dict(type='Accuracy', topk=(1, 5))


@pytest.mark.parametrize('name', RECIPES)
def test_augmentation(name):
    _, crop, flip, augment, erase, _ = (
        TRANSFORMS.build(step) for step in load(name).train_dataloader.dataset.pipeline
    )
    assert crop.scale == (224, 224) and crop.crop_ratio_range == (0.08, 1.0)
    assert crop.aspect_ratio_range == (3 / 4, 4 / 3)
    assert (crop.interpolation, crop.backend) == ('bicubic', 'pillow')
    assert flip.prob == 0.5 and flip.direction == 'horizontal'
    assert (augment.num_policies, augment.magnitude_level, augment.magnitude_std) == (2, 9, 0.5)
    assert erase.erase_prob == 0.25 and erase.mode == 'rand'
    assert (erase.min_area_ratio, erase.max_area_ratio) == (0.02, 1 / 3)
    assert erase.aspect_range == (0.3, 1 / 0.3)


def test_randaugment_is_timms():
    """The same operations, each applied with probability 0.5, as in ``rand-m9-mstd0.5-inc1``."""
    augment = TRANSFORMS.build(load('finetune/vitb16_in1k.py').train_dataloader.dataset.pipeline[3])
    theirs = rand_augment_transform('rand-m9-mstd0.5-inc1', {})
    assert augment.num_policies == theirs.num_layers == 2
    assert len(augment.transforms) == len(theirs.ops) == 15
    renamed = dict(Shear='Shear', Translate='Translate', ColorTransform='Color')
    for our, their in zip(augment.transforms, theirs.ops, strict=True):
        own = type(our).__name__
        assert their.name.startswith(renamed.get(own, own)), (own, their.name)
        assert our.prob == their.prob == 0.5
        assert their.magnitude == 9 and their.magnitude_std == 0.5
        if our.magnitude_range is not None:
            assert (our.magnitude_level, our.magnitude_std, our.total_level) == (9, 0.5, 10)


def test_erasing_draws_each_pixel():
    erase = TRANSFORMS.build(load('finetune/vitb16_in1k.py').train_dataloader.dataset.pipeline[4])
    np.random.seed(0)
    erased, shares, values = 0, [], []
    for _ in range(400):
        image = erase(dict(img=np.full((224, 224, 3), 255, np.uint8)))['img']
        changed = (image != 255).any(axis=2)
        if changed.any():
            erased += 1
            shares.append(changed.mean())
            values.append(image[changed])
    assert 70 < erased < 130  # a quarter of 400
    assert min(shares) > 0.01 and max(shares) < 0.35
    values = np.concatenate(values)
    assert values.mean(axis=0) == pytest.approx([103.53, 116.28, 123.675], rel=0.05)  # BGR
    assert (values.std(axis=0) > 45).all()  # not one colour a rectangle


@pytest.mark.parametrize('classes', [10, 1000])
def test_smoothing_inside_the_mix(classes):
    """Mixed labels through the loss give timm's smoothed mixed target."""
    cfg = load('finetune/vitb16_in1k.py')
    cfg.model.data_preprocessor.num_classes = classes
    preprocessor = MODELS.build(dict(cfg.model.data_preprocessor, batch_augments=cfg.model.train_cfg))
    loss = MODELS.build(cfg.model.head.loss)
    torch.manual_seed(0)
    np.random.seed(0)
    labels = torch.randint(classes, (4,))
    images = [torch.full((3, 32, 32), 50 * i, dtype=torch.uint8) for i in range(4)]
    batch = dict(inputs=images, data_samples=[DataSample().set_gt_label(label) for label in labels])
    mixed = preprocessor(batch, training=True)
    target = torch.stack([sample.gt_score for sample in mixed['data_samples']])
    assert torch.allclose(target.sum(1), torch.ones(4)) and not set(target.unique().tolist()) <= {0.0, 1.0}
    assert target.min() == 0  # mixed, and not yet smoothed
    scores = torch.randn(4, classes)
    smooth = target * (1 - 0.1) + 0.1 / classes
    expected = -(smooth * scores.log_softmax(1)).sum(1).mean()
    assert loss(scores, target).item() == pytest.approx(expected.item(), rel=1e-5)
    timm_mixup = TimmMixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=classes)
    timm_mixup.mixup_enabled = False  # the target of one image, unmixed
    _, theirs = timm_mixup(torch.zeros(4, 3, 8, 8), labels.clone())
    ours = loss.smooth_label(loss.generate_one_hot_like_label(labels))
    torch.testing.assert_close(ours, theirs.to(ours))


def test_both_ways_of_mixing_are_equally_likely():
    cfg = load('finetune/vitb16_in1k.py').model
    augments = MODELS.build(dict(cfg.data_preprocessor, batch_augments=cfg.train_cfg)).batch_augments
    np.random.seed(0)
    torch.manual_seed(0)
    cut = 0
    labels = torch.eye(2)
    for _ in range(200):
        images = torch.stack([torch.zeros(1, 16, 16), torch.ones(1, 16, 16)])
        mixed, _ = augments(images, labels)
        cut += not ((mixed > 0) & (mixed < 1)).any()  # CutMix keeps pixels; so does mixing with oneself
    # half of all draws mix an image with itself; those of Mixup then look like CutMix
    assert 130 < cut < 170


def test_head_starts_almost_at_zero():
    cfg = load('finetune/vitb16_in1k.py')
    torch.manual_seed(0)
    head = MODELS.build(cfg.model.head)
    head.init_weights()
    assert head.fc.weight.std().item() == pytest.approx(0.02 * 0.001, rel=0.01)
    assert head.fc.weight.abs().max().item() <= 0.002 and not head.fc.bias.any()


def test_linear_probe():
    cfg = load('linear_probe/vitb16_in1k.py')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    backbone, head = model.backbone, model.head
    assert backbone.out_type == 'raw' and backbone.out_indices == head.blocks == tuple(range(12))
    assert backbone.frozen_stages == 12 and not backbone.final_norm
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert head.pooling == 'both' and head.classifiers[0][0].in_features == 2 * 768
    assert model.data_preprocessor.batch_augments is None
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    assert type(optimizer) is torch.optim.AdamW
    assert [group['lr'] for group in optimizer.param_groups] == pytest.approx([4e-4, 1.2e-3, 4e-3, 1.2e-2])
    assert all(group['weight_decay'] == 1e-4 for group in optimizer.param_groups)
    scheduler = dict(cfg.param_scheduler)
    assert scheduler == dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=True, begin=0, end=100)
    assert cfg.train_cfg.max_epochs == 100
    _, crop, flip, _ = (TRANSFORMS.build(step) for step in cfg.train_dataloader.dataset.pipeline)
    assert crop.scale == (224, 224) and crop.crop_ratio_range == (0.08, 1.0)
    assert crop.interpolation == 'bilinear' and flip.prob == 0.5
    assert cfg.val_evaluator == cfg.test_evaluator == dict(type='LinearProbeAccuracy')
