"""The segmentation recipe, number by number, and segmentation of any image size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from PIL import Image

from mvp_mm.engine import build_runner, load_config, use_test_time_augmentation

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
VITB = 'upernet/vitb16_ade20k_160k_512x512.py'
VITL = 'upernet/vitl16_ade20k_160k_512x512.py'


def load(name):
    return Config.fromfile(ROOT / 'configs' / name)


def build_model(cfg):
    from mmseg.registry import MODELS

    cfg.model.backbone.init_cfg = None
    for part in ('neck', 'decode_head', 'auxiliary_head'):
        cfg.model[part].norm_cfg = dict(type='BN', requires_grad=True)
    return MODELS.build(cfg.model)


@pytest.mark.parametrize(
    'name,width,depth,indices,rate,decay,drop_path,scale',
    [
        (VITB, 768, 12, (3, 5, 7, 11), 3e-4, 0.65, 0.1, 0.1),
        (VITL, 1024, 24, (7, 11, 15, 23), 2e-5, 0.95, 0.2, 1e-5),
    ],
)
def test_recipe(name, width, depth, indices, rate, decay, drop_path, scale):
    cfg = load(name)
    assert cfg.model.backbone.init_cfg == dict(type='Pretrained', checkpoint=None, prefix='backbone.')
    with torch.device('meta'):
        model = build_model(cfg)
    backbone = model.backbone
    assert (backbone.embed_dims, backbone.num_layers, backbone.out_indices) == (width, depth, indices)
    assert backbone.window == (32, 32) and not hasattr(backbone, 'ln1') and not hasattr(backbone, 'ln2')
    assert backbone.layers[0].attn.relative_position_bias_table.shape[0] == 63 * 63 + 3
    assert backbone.rel_pos_bias is None and backbone.mask_token is None and backbone.pos_embed is None
    assert backbone.layers[-1].drop_path.drop_prob == pytest.approx(drop_path)
    assert cfg.model.backbone.layer_scale_init_value == scale
    head, auxiliary = model.decode_head, model.auxiliary_head
    assert (head.channels, head.num_classes) == (width, 150)
    assert tuple(head.psp_modules.pool_scales) == (1, 2, 3, 6)
    assert list(head.in_channels) == [width] * 4 and head.loss_decode.loss_weight == 1.0
    assert (auxiliary.channels, auxiliary.num_classes, auxiliary.in_index) == (256, 150, 2)
    assert auxiliary.loss_decode.loss_weight == 0.4 and auxiliary.num_convs == 1
    assert load(name).norm_cfg.type == 'SyncBN'
    assert load(name).model.decode_head.norm_cfg.type == 'SyncBN'
    test = model.test_cfg
    assert (test.mode, test.crop_size, test.stride) == ('slide', (512, 512), (341, 341))

    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert wrapper.clip_grad_kwargs is None
    assert type(wrapper.optimizer) is torch.optim.AdamW
    setting = {}
    for group in wrapper.optimizer.param_groups:
        for parameter in group['params']:
            setting[id(parameter)] = group['lr'], group['weight_decay']
    for parameter_name, parameter in model.named_parameters():
        top = depth + 1
        level = top
        if parameter_name.startswith('backbone.layers.'):
            level = int(parameter_name.split('.')[2]) + 1
        elif parameter_name.startswith(('backbone.cls_token', 'backbone.patch_embed')):
            level = 0
        expected_decay = 0.05 if parameter.ndim > 1 and not parameter_name.endswith('cls_token') else 0.0
        assert setting[id(parameter)] == pytest.approx((rate * decay ** (top - level), expected_decay)), (
            parameter_name
        )
    assert cfg.auto_scale_lr.base_batch_size == 16 and cfg.train_dataloader.batch_size * 8 == 16


def test_pooling_has_a_deterministic_gradient():
    """CUDA's own has none, and ``randomness.deterministic=True`` refuses it."""
    from mvp_mm.models.segmentation.windowed_encoder_decoder import RepeatableAvgPool2d

    with torch.device('meta'):
        pools = [stage[0] for stage in build_model(load(VITB)).decode_head.psp_modules]
    assert [type(pool) for pool in pools] == [RepeatableAvgPool2d] * 4
    assert [pool.output_size for pool in pools] == [1, 2, 3, 6]


def test_schedule():
    cfg = load(VITB)
    assert cfg.train_cfg.max_iters == 160000
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=3e-4)
    schedulers = [
        PARAM_SCHEDULERS.get(scheduler['type'])(
            optimizer=optimizer, **{k: v for k, v in scheduler.items() if k != 'type'}
        )
        for scheduler in cfg.param_scheduler
    ]
    rates = {}
    for step in range(160000):
        if step in (0, 750, 1500, 80000, 159999):
            rates[step] = optimizer.param_groups[0]['lr']
        for scheduler in schedulers:
            scheduler.step()
    rates[160000] = optimizer.param_groups[0]['lr']
    assert rates[0] == pytest.approx(3e-4 * 1e-6)
    assert rates[750] == pytest.approx(3e-4 * 750 / 1499, rel=1e-3)
    for step in (1500, 80000, 159999):
        assert rates[step] == pytest.approx(3e-4 * (160000 - step) / 158500, rel=2e-3, abs=5e-9), step
    assert rates[160000] == pytest.approx(0, abs=1e-8)


def test_data():
    cfg = load(VITB)
    steps = {step.type: step for step in cfg.train_pipeline}
    resize = steps['RandomResize']
    assert (resize.scale, resize.ratio_range, resize.keep_ratio) == ((2048, 512), (0.5, 2.0), True)
    crop = steps['mmseg.RandomCrop']
    assert (crop.crop_size, crop.cat_max_ratio) == ((512, 512), 0.75)
    assert steps['RandomFlip'].prob == 0.5 and 'mmseg.PhotoMetricDistortion' in steps
    assert steps['LoadAnnotations'].reduce_zero_label
    assert cfg.test_pipeline[1].scale == (2048, 512)
    sizes, flips = cfg.tta_pipeline[1].transforms[:2]
    assert [size.scale for size in sizes] == [512, 512, 512, 640, 768, 896]
    assert [flip.prob for flip in flips] == [0.0, 1.0]


def camvid(tmp_path, sizes, crop=32):
    """A CamVid-like folder with random images of the given sizes, and the tiny config on it."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for kind in ('images', 'annotations'):
            (tmp_path / kind / split).mkdir(parents=True)
        for number, (height, width) in enumerate(sizes):
            image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / f'images/{split}/{number:02d}.jpg')
            label = rng.integers(0, 12, (height, width), dtype=np.uint8)
            Image.fromarray(label).save(tmp_path / f'annotations/{split}/{number:02d}.png')
    cfg = load('upernet/vittiny_camvid.py')
    tiny(cfg, tmp_path, crop)
    return cfg


def tiny(cfg, tmp_path, crop=32):
    """Make one of the tiny configs tinier, on the folder of :func:`camvid`."""
    cfg.work_dir = str(tmp_path / 'run')
    cfg.model.data_preprocessor.size = cfg.model.data_preprocessor.test_cfg.size = (crop, crop)
    cfg.model.backbone.update(
        img_size=crop,
        arch=dict(embed_dims=24, num_layers=4, num_heads=3, feedforward_channels=48),
    )
    cfg.model.neck.embed_dim = 24
    cfg.model.decode_head.update(in_channels=[24] * 4, channels=16)
    cfg.model.auxiliary_head.update(in_channels=24, channels=16)
    if cfg.model.test_cfg.mode == 'slide':
        cfg.model.test_cfg.update(crop_size=(crop, crop), stride=(28, 28))
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        if 'data_root' in loader.dataset:
            loader.dataset.data_root = str(tmp_path)
        else:
            loader.dataset.count = 4
    for step in cfg.train_dataloader.dataset.pipeline:
        if step.type == 'mmseg.RandomCrop':
            step.crop_size = (crop, crop)
    cfg.train_dataloader.batch_size = 2
    cfg.auto_scale_lr.base_batch_size = 2
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.interval = 2


ODD_SIZES = [
    (32, 32), (33, 31), (31, 64), (20, 90), (90, 20), (17, 17), (64, 63), (47, 51), (100, 37),
    (8, 8), (9, 40), (53, 53), (32, 33), (21, 32), (61, 35), (96, 32), (35, 97),
]  # fmt: skip


@pytest.mark.parametrize('tta', [False, True])
def test_seventeen_odd_sizes(tmp_path, tta):
    """Sliding windows at any size, single-scale and multi-scale with flip (ratios 0.5 to 1.75)."""
    cfg = camvid(tmp_path, ODD_SIZES)
    pipeline = [cfg.test_pipeline[0], *cfg.test_pipeline[2:]]  # at their own sizes
    cfg.test_dataloader.dataset.pipeline = pipeline
    if tta:
        sizes = [dict(type='Resize', scale_factor=ratio, keep_ratio=True) for ratio in (0.5, 1.75)]
        cfg.tta_pipeline[1].transforms[0] = sizes
        use_test_time_augmentation(cfg)
    runner = build_runner(cfg)
    shapes = []

    class ShapeHook(Hook):
        def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            shapes.extend(tuple(sample.pred_sem_seg.data.shape[-2:]) for sample in outputs)

    runner.register_hook(ShapeHook())
    metrics = runner.test()
    assert shapes == ODD_SIZES
    assert 0 <= metrics['mIoU'] <= 100


def test_trains_and_takes_a_pretraining_checkpoint(tmp_path):
    from mvp_mm.models import MVPViT

    cfg = camvid(tmp_path, [(48, 64)] * 4)
    source = MVPViT(
        cfg.model.backbone.arch, img_size=24, patch_size=8, use_rel_pos_bias=False,
        use_shared_rel_pos_bias=True, final_norm=True, out_type='raw',
    )  # fmt: skip
    source.rel_pos_bias.relative_position_bias_table.data.normal_()
    path = tmp_path / 'pretrained.pth'
    torch.save(dict(state_dict={f'backbone.{k}': v for k, v in source.state_dict().items()}), path)
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    runner = build_runner(cfg)
    runner.train()
    assert runner.iter == 2
    trained = runner.model.backbone.layers[0].attn.qkv.weight.cpu()
    assert (trained - source.layers[0].attn.qkv.weight).abs().max() < 0.01  # two steps away, no more
    assert (tmp_path / 'run/iter_2.pth').is_file()
    # going on needs no pre-training checkpoint any more
    path.unlink()
    cfg.train_cfg.max_iters = 3
    cfg.resume = True
    runner = build_runner(cfg)
    runner.train()
    assert runner.iter == 3


def test_without_checkpoint_is_an_error(tmp_path):
    cfg = camvid(tmp_path, [(48, 64)] * 2)
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=None)
    with pytest.raises(FileNotFoundError, match='backbone.init_cfg.checkpoint=FILE_OR_URL'):
        build_runner(cfg).train()


DOWNSTREAM = sorted(
    str(path.relative_to(ROOT / 'configs'))
    for folder in ('finetune', 'linear_probe', 'upernet')
    for path in (ROOT / 'configs' / folder).glob('*.py')
)
CHECKPOINT = 'model.backbone.init_cfg.checkpoint'


@pytest.mark.parametrize('name', DOWNSTREAM)
def test_the_option_for_a_checkpoint(name, tmp_path):
    """Every downstream config takes it, and so does one that says: from scratch."""
    shipped = str(ROOT / 'configs' / name)
    init_cfg = load_config(shipped, cfg_options={CHECKPOINT: 'a.pth'}).model.backbone.init_cfg
    assert (init_cfg.type, init_cfg.checkpoint) == ('Pretrained', 'a.pth')
    mine = tmp_path / 'mine.py'
    mine.write_text(f"_base_ = 'mvp_mm::{name}'\nmodel = dict(backbone=dict(init_cfg=None))\n")
    init_cfg = load_config(str(mine), cfg_options={CHECKPOINT: 'a.pth'}).model.backbone.init_cfg
    assert (init_cfg.type, init_cfg.checkpoint) == ('Pretrained', 'a.pth')
    assert load_config(str(mine)).model.backbone.init_cfg is None


def test_the_option_for_a_checkpoint_where_none_is_needed(tmp_path):
    from mvp_mm.models import MVPViT

    cfg = camvid(tmp_path, [(48, 64)] * 2)
    torch.manual_seed(1)
    source = MVPViT(cfg.model.backbone.arch, img_size=24, patch_size=8, use_rel_pos_bias=True)
    torch.save(source.state_dict(), tmp_path / 'pretrained.pth')
    fresh = build_runner(cfg)
    fresh._init_model_weights()
    cfg.dump(tmp_path / 'config.py')
    cfg = load_config(str(tmp_path / 'config.py'), cfg_options={CHECKPOINT: str(tmp_path / 'pretrained.pth')})
    filled = build_runner(cfg)
    filled._init_model_weights()
    weight = source.layers[0].attn.qkv.weight
    assert torch.equal(filled.model.backbone.layers[0].attn.qkv.weight.cpu(), weight)
    assert not torch.equal(fresh.model.backbone.layers[0].attn.qkv.weight.cpu(), weight)


@pytest.mark.parametrize('name', ['vittiny_camvid', 'vittiny_custom', 'vittiny_scenes'])
def test_multi_scale_test_of_the_tiny_configs(name, tmp_path):
    camvid(tmp_path, [(54, 72), (72, 54)])
    for path in (tmp_path / 'annotations').rglob('*.png'):
        Image.fromarray(np.asarray(Image.open(path)) % 2).save(path)
    cfg = load(f'upernet/{name}.py')
    tiny(cfg, tmp_path, 64 if 'scenes' in name else 32)
    for transform in cfg.tta_pipeline[-1].transforms[0]:
        if 'scenes' not in name:
            transform.scale = tuple(side // 4 for side in transform.scale)
    use_test_time_augmentation(cfg)
    samples = []

    class KeepHook(Hook):
        def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            samples.extend(outputs)

    runner = build_runner(cfg)
    runner.register_hook(KeepHook())
    metrics = runner.test()
    assert 0 <= metrics['mIoU'] <= 100
    assert all(sample.pred_sem_seg.shape == sample.gt_sem_seg.shape for sample in samples)
    assert all(sample.gt_sem_seg.shape == tuple(sample.ori_shape) for sample in samples)
    if name == 'vittiny_scenes':
        for sample, scene in zip(samples, runner.test_dataloader.dataset.collection, strict=True):
            assert np.array_equal(sample.gt_sem_seg.data[0].cpu(), scene[1])


@pytest.mark.parametrize('name', [VITB, 'upernet/vitb16_custom_512x512.py'])
def test_multi_scale_test_of_the_large_configs(name, tmp_path):
    """Everything a quarter as large."""
    for kind, ending, top in (('images', 'jpg', 256), ('annotations', 'png', 2)):
        for folder in ('validation', 'val'):
            (tmp_path / kind / folder).mkdir(parents=True)
            pixels = np.random.default_rng(0).integers(0, top, (40, 56, 3)[: 2 + (top > 2)], dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f'{kind}/{folder}/0.{ending}')
    cfg = load(name)
    cfg.work_dir = str(tmp_path / 'run')
    cfg.model.backbone.update(
        img_size=128,
        arch=dict(embed_dims=24, num_layers=12, num_heads=3, feedforward_channels=48),
        init_cfg=None,
    )
    cfg.model.data_preprocessor.update(size=(128, 128), test_cfg=dict(size=(128, 128)))
    cfg.model.test_cfg.update(crop_size=(128, 128), stride=(85, 85))
    norm_cfg = dict(type='BN', requires_grad=True)
    cfg.model.neck.update(embed_dim=24, norm_cfg=norm_cfg)
    cfg.model.decode_head.update(in_channels=[24] * 4, channels=16, norm_cfg=norm_cfg)
    cfg.model.auxiliary_head.update(in_channels=24, channels=16, norm_cfg=norm_cfg)
    for transform in cfg.tta_pipeline[1].transforms[0]:
        transform.scale //= 4
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader.dataset.data_root = str(tmp_path)
    use_test_time_augmentation(cfg)
    assert 0 <= build_runner(cfg).test()['mIoU'] <= 100


def test_iterations_are_stretched_by_accumulation(tmp_path):
    """Half the batch: twice the iterations, the same number of optimiser steps and schedule."""
    cfg = camvid(tmp_path, [(48, 64)] * 4)
    cfg.auto_scale_lr.base_batch_size = 4
    cfg.param_scheduler[1].end = 2
    cfg.param_scheduler[0].end = cfg.param_scheduler[1].begin = 1
    runner = build_runner(cfg)
    runner.train()
    assert runner.optim_wrapper._accumulative_counts == 2
    assert runner.iter == 4 and runner.max_iters == 4
    steps = {int(state['step']) for state in runner.optim_wrapper.optimizer.state.values()}
    assert steps == {2}
    assert (tmp_path / 'run/iter_4.pth').is_file() and not (tmp_path / 'run/iter_2.pth').exists()


def test_camvid_labels(tmp_path):
    """Label 11 is ignored, 0 to 10 are kept."""
    from mvp_mm.datasets.sources.camvid import CamVidDataset

    camvid(tmp_path, [(40, 40)])
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = CamVidDataset(
            data_root=str(tmp_path),
            data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')],
        )
    label = dataset[0]['gt_seg_map']
    original = np.asarray(Image.open(tmp_path / 'annotations/val/00.png'))
    assert (label[original == 11] == 255).all() and (original == 11).any()
    assert (label[original < 11] == original[original < 11]).all()
    assert len(dataset.metainfo['classes']) == 11 == len(dataset.metainfo['palette'])


def test_inherited_from_another_folder(tmp_path):
    """``mvp_mm::`` puts the model into the scope mvp_mm; the prefixed names must still resolve."""
    camvid(tmp_path / 'data', [(48, 64)] * 2)
    mine = tmp_path / 'mine.py'
    mine.write_text(
        "_base_ = 'mvp_mm::upernet/vittiny_camvid.py'\n"
        f'work_dir = {str(tmp_path / "run")!r}\n'
        f'dataset = dict(data_root={str(tmp_path / "data")!r})\n'
        'loader = dict(num_workers=0, persistent_workers=False, dataset=dataset)\n'
        'train_dataloader = dict(batch_size=2, **loader)\n'
        'val_dataloader = loader\n'
        'test_dataloader = loader\n'
        'auto_scale_lr = dict(base_batch_size=2)\n'
        'train_cfg = dict(max_iters=1, val_interval=5)\n'
    )
    runner = build_runner(Config.fromfile(mine))
    runner.train()
    assert type(runner.model).__name__ == 'WindowedEncoderDecoder' and runner.iter == 1


SHIPPED = [
    'upernet/vittiny_camvid.py',
    'upernet/vittiny_custom.py',
    'upernet/vittiny_scenes.py',
    'upernet/vitb16_custom_512x512.py',
    VITB,
]


@pytest.mark.parametrize('inherited', [False, True])
@pytest.mark.parametrize('name', SHIPPED)
def test_inference_through_mmseg(name, inherited, tmp_path):
    """mmseg's own functions, from a shipped config file and from one that inherits from it."""
    from mmseg.apis import MMSegInferencer, inference_model, init_model

    path = ROOT / 'configs' / name
    if inherited:
        path = tmp_path / 'mine.py'
        path.write_text(f"_base_ = 'mvp_mm::{name}'\n")
    arch = dict(embed_dims=24, num_layers=12, num_heads=3, feedforward_channels=48)
    small = {
        'model.neck.embed_dim': 24,
        'model.decode_head.in_channels': [24] * 4,
        'model.decode_head.channels': 16,
        'model.auxiliary_head.in_channels': 24,
        'model.auxiliary_head.channels': 16,
    }
    cfgs = [Config.fromfile(path) for _ in range(2)]  # each function changes its own
    if 'vitb16' in name:
        for cfg in cfgs:
            cfg.merge_from_dict(small)
            cfg.model.backbone.arch = arch
    model = init_model(cfgs[0], device='cpu')
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / 'photo.png')
    result = inference_model(model, str(tmp_path / 'photo.png'))
    assert result.pred_sem_seg.shape == (60, 80)
    meta = dict(dataset_meta=dict(classes=['a'] * model.num_classes, palette=[[0, 0, 0]] * model.num_classes))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'a.pth')
    inferencer = MMSegInferencer(cfgs[1], str(tmp_path / 'a.pth'), device='cpu')
    predicted = inferencer(image[..., ::-1], show=False)['predictions']
    assert (predicted == result.pred_sem_seg.data[0].numpy()).mean() > 0.99


def test_pipelines_build_in_the_scope_of_mmseg(tmp_path):
    cfg = load(VITB)
    import mmseg.datasets.transforms  # noqa: F401

    with DefaultScope.overwrite_default_scope('mmseg'):
        for pipeline in (cfg.train_pipeline, cfg.test_pipeline, cfg.tta_pipeline):
            assert len(Compose(pipeline).transforms) == len(pipeline)


def test_segmenting_an_image(tmp_path):
    """From checkpoint and config to labels of the image's own size."""
    from mvp_mm.evaluation.segment import load_segmentor, segment_image

    cfg = camvid(tmp_path, [(48, 64)] * 2)
    runner = build_runner(cfg)
    runner.train()
    config = tmp_path / 'config.py'
    cfg.dump(config)
    model = load_segmentor(str(config), str(tmp_path / 'run/iter_2.pth'), 'cpu')
    assert not model.training and len(model.dataset_meta['classes']) == 11
    path = tmp_path / 'photo.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70), dtype=np.uint8)).save(path)
    image, labels = segment_image(model, path)
    assert image.shape == (50, 70, 3) and labels.shape == (50, 70)
    assert set(np.unique(labels)) <= set(range(11))
