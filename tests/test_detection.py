"""ViTDet's recipe, number by number, and Mask R-CNN from pre-training to COCO's metrics on tiny images."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmdet', reason='mmdet is not installed: mvp_mm[detection]')

from coco_files import CLASSES, SIZES, write_coco  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.structures.mask import PolygonMasks  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.optim import build_optim_wrapper  # noqa: E402
from mmengine.registry import EVALUATOR, MODELS, PARAM_SCHEDULERS, DefaultScope  # noqa: E402
from mmengine.runner import Runner  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

from mvp_mm.engine import build_runner, load_config  # noqa: E402
from mvp_mm.models import MVPViT  # noqa: E402
from mvp_mm.models.student import student_of, task_of  # noqa: E402
from mvp_mm.weights import load as load_weights  # noqa: E402
from mvp_mm.weights.bias_tables import resize_table  # noqa: E402

ROOT = Path(__file__).parents[1]
VITB = ROOT / 'configs/detection/vitdet_vitb16_coco.py'
DEBUG = ROOT / 'configs/detection/vittiny_debug.py'
STUDENT = dict(
    arch=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
    patch_size=8,
    layer_scale_init_value=0.1,
)


def build(cfg):
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(cfg.model)


@pytest.fixture(scope='module')
def vitb():
    cfg = Config.fromfile(VITB)
    cfg.model.backbone.init_cfg = None
    with torch.device('meta'):
        return cfg, build(cfg)


def test_recipe(vitb):
    """ViTDet, appendices A.1 and A.2; mask_rcnn_vitdet_b_100ep.py of detectron2."""
    cfg, model = vitb
    assert Config.fromfile(VITB).model.backbone.init_cfg == dict(
        type='Pretrained', checkpoint=None, prefix='backbone.'
    )
    backbone, neck, heads = model.backbone, model.neck, model.roi_head
    assert (backbone.embed_dims, backbone.num_layers, backbone.window) == (768, 12, (64, 64))
    assert backbone.out_indices == (11,) and not hasattr(backbone, 'ln1')
    assert backbone.layers[-1].drop_path.drop_prob == pytest.approx(0.1)
    assert neck.num_outs == 5 and [level[-2].out_channels for level in neck.levels] == [256] * 4
    assert len(model.rpn_head.rpn_conv) == 2
    strides = [stride[0] for stride in model.rpn_head.prior_generator.strides]
    assert strides == [4, 8, 16, 32, 64]
    shared = heads.bbox_head
    assert (len(shared.shared_convs), len(shared.shared_fcs), shared.num_classes) == (4, 1, 80)
    assert (len(heads.mask_head.convs), heads.mask_head.num_classes) == (4, 80)
    for layer in (*shared.shared_convs, *heads.mask_head.convs):
        assert isinstance(layer.norm, torch.nn.LayerNorm) and layer.norm.eps == 1e-6
    assert model.data_preprocessor.pad_size_divisor == 1024
    assert cfg.auto_scale_lr.base_batch_size == 64 and cfg.train_dataloader.batch_size * 8 * 4 == 64
    assert cfg.train_cfg.max_iters * 64 == 100 * 118000
    assert cfg.train_cfg.max_iters % cfg.train_cfg.val_interval == 0
    resize, crop = cfg.train_pipeline[3:5]
    assert (resize.scale, resize.ratio_range, crop.crop_size) == ((1024, 1024), (0.1, 2.0), (1024, 1024))
    assert task_of(model) == 'detection' and student_of(model) is backbone


def test_layer_wise_rates(vitb):
    """ViTDet's ``get_vit_lr_decay_rate``: 0.7 ** (13 - layer), 0 the embedding and 13 what is outside."""
    cfg, model = vitb
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert type(wrapper.optimizer) is torch.optim.AdamW and wrapper.clip_grad_kwargs is None
    setting = {}
    for group in wrapper.optimizer.param_groups:
        assert tuple(group['betas']) == (0.9, 0.999)
        for parameter in group['params']:
            setting[id(parameter)] = group['lr'], group['weight_decay']
    seen = set()
    for name, parameter in model.named_parameters():
        layer = 13
        if name.startswith(('backbone.patch_embed', 'backbone.cls_token')):
            layer = 0
        elif name.startswith('backbone.layers.'):
            layer = int(name.split('.')[2]) + 1
        decays = parameter.ndim > 1 and not name.endswith(('cls_token', 'bias'))
        expected = 1e-4 * 0.7 ** (13 - layer), 0.1 if decays else 0.0
        assert setting[id(parameter)] == pytest.approx(expected), name
        seen.add(layer)
    assert seen == set(range(14))


def test_schedule():
    cfg = Config.fromfile(VITB)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-4)
    schedulers = [PARAM_SCHEDULERS.build(dict(one, optimizer=optimizer)) for one in cfg.param_scheduler]
    rates = {}
    for step in range(cfg.train_cfg.max_iters):
        if step in (0, 125, 250, 163888, 163890, 177545, 177547, 184374):
            rates[step] = optimizer.param_groups[0]['lr']
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] == pytest.approx(1e-7) and rates[125] == pytest.approx(5e-5, rel=0.02)
    for steps, rate in (((250, 163888), 1e-4), ((163890, 177545), 1e-5), ((177547, 184374), 1e-6)):
        assert [rates[step] for step in steps] == pytest.approx([rate] * 2)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """A pre-training checkpoint of 32-pixel images, with one table for all blocks and every entry random."""
    torch.manual_seed(0)
    student = MVPViT(
        img_size=32, use_rel_pos_bias=False, use_shared_rel_pos_bias=True, out_type='raw', **STUDENT
    )
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    path = tmp_path_factory.mktemp('pretrained') / 'epoch_1.pth'
    torch.save(dict(state_dict={f'backbone.{n}': v for n, v in student.state_dict().items()}), path)
    return path


def test_pretrained_weights_on_a_padded_image_that_is_not_square(checkpoint):
    cfg = Config.fromfile(DEBUG)
    cfg.model.backbone.init_cfg.checkpoint = str(checkpoint)
    cfg.model.data_preprocessor.pad_size_divisor = 16
    model = build(cfg)
    model.init_weights()
    model.eval()
    own = MVPViT(img_size=64, out_type='raw', **STUDENT)
    load_weights(own, str(checkpoint))
    own.eval()
    saved = torch.load(checkpoint)['state_dict']['backbone.rel_pos_bias.relative_position_bias_table']
    for block in model.backbone.layers:
        assert torch.equal(block.attn.relative_position_bias_table, resize_table(saved, (4, 4), (8, 8)))
    image = torch.randint(0, 256, (3, 50, 37), dtype=torch.uint8)
    batch = model.data_preprocessor(dict(inputs=[image], data_samples=[DetDataSample()]))
    images = batch['inputs']
    assert images.shape == (1, 3, 64, 48) and not images[..., 50:, :].any() and not images[..., 37:].any()
    mean, std = (torch.tensor(cfg.model.data_preprocessor[key]).view(3, 1, 1) for key in ('mean', 'std'))
    torch.testing.assert_close(images[0, :, :50, :37], (image.flip(0) - mean) / std)
    with torch.no_grad():
        (found,) = model.backbone(images)
        _, patches = own.encode_image(images)
        levels = model.extract_feat(images)
        torch.testing.assert_close(found, patches.transpose(1, 2).unflatten(2, (8, 6)), atol=1e-5, rtol=1e-5)
        for level, expected in zip(levels, model.neck([found]), strict=True):
            assert torch.equal(level, expected)
    assert [level.shape[2:] for level in levels] == [(16, 12), (8, 6), (4, 3), (2, 1), (1, 1)]


@pytest.fixture
def debug(tmp_path):
    """The debug config on two classes."""
    folder = write_coco(tmp_path / 'coco')
    cfg = load_config(str(DEBUG), str(tmp_path / 'run'))
    cfg.model.backbone.init_cfg = None
    for head in ('bbox_head', 'mask_head'):
        cfg.model.roi_head[head].num_classes = len(CLASSES)
    for phase in ('train', 'val', 'test'):
        loader = cfg[f'{phase}_dataloader']
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(folder), metainfo=dict(classes=CLASSES))
    for phase in ('val', 'test'):
        cfg[f'{phase}_dataloader'].dataset.indices = 2
        cfg[f'{phase}_evaluator'].ann_file = str(folder / 'annotations/instances_val2017.json')
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.param_scheduler = []
    cfg.auto_scale_lr.base_batch_size = 2
    cfg.default_hooks.logger.interval = cfg.default_hooks.checkpoint.interval = 1
    return cfg


NETWORKS = {
    'vit_small_patch16_dinov3': dict(embed_dim=24, depth=2, num_heads=3),  # every block attends globally
    'samvit_base_patch16': dict(  # windows of 2x2 patches but in the last block
        embed_dim=24, depth=3, num_heads=3, window_size=2, global_attn_indexes=(2,)
    ),
}


@pytest.mark.parametrize('name', NETWORKS)
def test_timms_networks(name, debug):
    """The maps are timm's own, rates fall with depth, and two steps train windows and the rest alike."""
    backbone = Config.fromfile(VITB.with_name('vitdet_timm_vitb16_coco.py')).model.backbone
    backbone.update(model_name=name, img_size=64, init_cfg=None, model_args=NETWORKS[name])
    debug.model.backbone = backbone
    debug.model.neck.update(in_channels=24, scales=(4, 2, 1, 0.5))
    debug.val_cfg = debug.val_dataloader = debug.val_evaluator = None
    debug.default_hooks.checkpoint.pop('save_best')
    runner = build_runner(debug)
    before = {n: value.clone() for n, value in runner.model.backbone.network.named_parameters()}
    runner.train()
    student = runner.model.backbone.eval()
    learnt = [n for n, value in student.network.named_parameters() if value.requires_grad]
    assert all((dict(student.network.named_parameters())[n] != before[n]).any() for n in learnt)
    images = torch.randn(1, 3, 64, 48)
    expected = student.network.forward_intermediates(images, indices=1, intermediates_only=True)[-1]
    assert torch.equal(student(images)[0], expected) and expected.shape == (1, 24, 4, 3)
    scales = [group['lr_scale'] for group in runner.optim_wrapper.optimizer.param_groups]
    # timm counts the layers behind SAM's last block as one more depth
    deepest = NETWORKS[name]['depth'] + 1 + (name == 'samvit_base_patch16')
    assert min(scales) == pytest.approx(0.7**deepest) and max(scales) == 1


@pytest.mark.slow
def test_two_steps_a_restart_and_the_test(debug, checkpoint, tmp_path, monkeypatch):
    """Trained and evaluated as by the tools; a run that is cut after a step ends with the same weights."""
    monkeypatch.setattr(Runner, '_log_env', lambda self, env: None)
    debug.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(checkpoint))
    cut = debug.copy()
    runner = build_runner(debug)
    runner.train()
    (log,) = Path(runner.log_dir).glob('vis_data/*_*.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [line for line in lines if 'loss' in line]
    names = ('loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask')
    assert len(losses) == 2
    for line in losses:
        assert line['loss'] == pytest.approx(sum(line[name] for name in names), rel=1e-4)
        assert 0 < line['loss'] < 20 and line['images_per_second'] > 0
    metrics = lines[-1]
    assert {'coco/bbox_mAP', 'coco/segm_mAP', 'coco/segm_mAP_50'} <= metrics.keys()
    whole = torch.load(tmp_path / 'run/iter_2.pth')['state_dict']

    cut.work_dir = str(tmp_path / 'cut')
    cut.train_cfg.max_iters = 1
    build_runner(cut).train()
    cut.train_cfg.max_iters, cut.resume = 2, True
    build_runner(cut).train()
    again = torch.load(tmp_path / 'cut/iter_2.pth')['state_dict']
    assert whole.keys() == again.keys() and all(torch.equal(whole[name], again[name]) for name in whole)

    path = tmp_path / 'detect.py'
    debug.dump(path)
    out = tmp_path / 'metrics.json'
    saved = str(tmp_path / 'run/iter_2.pth')
    arguments = ['test.py', str(path), saved, '--out', str(out), '--work-dir', str(tmp_path / 'test')]
    monkeypatch.setattr(sys, 'argv', arguments)
    runpy.run_path(str(ROOT / 'tools/test.py'), run_name='__main__')
    tested = json.loads(out.read_text())
    assert tested == {name: metrics[name] for name in tested} and 'coco/segm_mAP' in tested


def test_the_metric_of_perfect_answers(debug):
    """What the dataset reads is what the metric compares with."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        loader = Runner.build_dataloader(debug.val_dataloader)
        evaluator = EVALUATOR.build(dict(type='Evaluator', metrics=[debug.val_evaluator]))
    evaluator.dataset_meta = loader.dataset.metainfo
    for number in range(len(loader.dataset)):
        info = loader.dataset.get_data_info(number)
        shape = info['height'], info['width']
        assert shape == SIZES[number]
        masks = PolygonMasks(
            [[torch.tensor(p).numpy() for p in i['mask']] for i in info['instances']], *shape
        )
        predicted = InstanceData(
            bboxes=torch.tensor([i['bbox'] for i in info['instances']]),
            labels=torch.tensor([i['bbox_label'] for i in info['instances']]),
            scores=torch.tensor([0.9, 0.8]),
            masks=torch.from_numpy(masks.to_ndarray()).bool(),
        )
        sample = DetDataSample(
            pred_instances=predicted, metainfo=dict(img_id=info['img_id'], ori_shape=shape)
        )
        evaluator.process([sample.to_dict() | dict(img_id=info['img_id'], ori_shape=shape)])
    # Images without an answer count: half of the four are asked.
    metrics = evaluator.evaluate(len(loader.dataset))
    assert metrics['coco/bbox_mAP_50'] == pytest.approx(0.5, abs=0.02)
    assert metrics['coco/segm_mAP_50'] == pytest.approx(0.5, abs=0.02)


def test_classes_that_do_not_fit(debug):
    debug.model.roi_head.mask_head.num_classes = 3
    with pytest.raises(ValueError, match='have 2 classes .*model.roi_head.mask_head.num_classes=2'):
        build_runner(debug).train()
