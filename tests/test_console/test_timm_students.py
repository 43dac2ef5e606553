"""Networks of timm as the student of a command."""

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope

import mvp_mm
from mvp_mm.console.timm_students import put_in
from mvp_mm.console.training import config_of
from mvp_mm.export import export
from mvp_mm.zoo.entries import CONFIGS

RANDOM_TEACHER = 'timm:vit_tiny_patch16_224/random'
STEP = {
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'model.target_generator.model_args': dict(depth=1),
}


def written(path):
    cfg = Config.fromfile(path)
    with torch.device('meta'), DefaultScope.overwrite_default_scope(cfg.default_scope):
        backbone = dict(cfg.model.backbone, init_cfg=None)
        return cfg, ROOT_MODELS.build(backbone)


@pytest.mark.parametrize(
    'name, grid, masked',
    [
        ('vit_tiny_patch16_siglip_fake', None, None),
        pytest.param('vit_small_patch16_dinov3', 14, 75, marks=pytest.mark.slow),
        pytest.param('vit_small_patch14_reg4_dinov2', 16, 98, marks=pytest.mark.slow),
        pytest.param('test_convnext', 7, 19, marks=pytest.mark.slow),
    ],
)
def test_a_config_of_pre_training(name, grid, masked, image_folder, tmp_path):
    how = dict(data=image_folder, out=tmp_path / 'out', teacher=RANDOM_TEACHER, batch=2, dry_run=True)
    if grid is None:
        with pytest.raises(ValueError, match='timm knows no model'):
            mvp_mm.pretrain(student=f'timm:{name}', **how)
        return
    cfg, student = written(mvp_mm.pretrain(student=f'timm:{name}', **how))
    assert cfg.model.backbone.init_cfg.checkpoint == f'timm:{name}'
    assert student.grid == (grid, grid) and cfg.model.neck.in_channels == student.embed_dims
    teacher = cfg.model.target_generator
    assert teacher.patch_size == student.patch_size == cfg.model.backbone.patch_size
    assert ('grid_matching' in teacher) == (student.patch_size == 32)
    own = [255 * value for value in timm.get_pretrained_cfg(name).mean]
    assert cfg.model.data_preprocessor.mean == teacher.student_mean == pytest.approx(own)
    (mask,) = [step for step in cfg.train_dataloader.dataset.pipeline if step.type == 'BlockwiseMask']
    assert mask.input_size == [grid, grid] and mask.num_masking_patches == masked
    fresh = Config.fromfile(mvp_mm.pretrain(student=f'timm:{name}/random', **how))
    assert fresh.model.backbone.init_cfg is None and fresh.train_cfg.max_epochs == 300


@pytest.mark.slow
def test_configs_downstream(image_folder, tmp_path):
    for split in ('train', 'val'):
        for label in ('a', 'b'):
            folder = tmp_path / 'data' / split / label
            folder.mkdir(parents=True)
            for file in image_folder.rglob('*.jpg'):
                (folder / file.name).write_bytes(file.read_bytes())
                break
    how = dict(data=tmp_path / 'data', out=tmp_path / 'out', checkpoint=None, batch=2, dry_run=True)
    for name, kind in (('vit_small_patch16_dinov3', 'plain'), ('mobilenetv4_conv_small_050', 'stages')):
        student = f'timm:{name}'
        cfg, model = written(mvp_mm.finetune(student=student, **how))
        assert cfg.model.backbone.out_type == 'pooled' and cfg.model.head.in_channels == model.pooled_dims
        assert cfg.model.backbone.model_args.drop_path_rate == 0.1 and cfg.model.head.num_classes == 2
        cfg, model = written(mvp_mm.probe(student=student, **how))
        blocks = list(range(12)) if kind == 'plain' else [model.num_layers - 1]
        assert cfg.model.head.blocks == blocks and not any(p.requires_grad for p in model.parameters())

        cfg = Config.fromfile(CONFIGS / config_of(student, 'segment'))
        put_in(cfg, student, 'segment')
        assert cfg.model.backbone.type == 'mmpretrain.TimmStudent'
        assert (cfg.model.neck is None) == (kind == 'stages')
        if kind == 'plain':
            assert cfg.model.backbone.out_indices == [2, 5, 8, 11] and cfg.model.neck.embed_dim == 384
        else:
            assert cfg.model.decode_head.in_channels == model.channels[-4:]
        assert cfg.model.auxiliary_head.in_channels == cfg.model.decode_head.in_channels[-2]


@pytest.mark.slow
def test_pretrains_a_tiny_network(image_folder, tmp_path):
    out = tmp_path / 'run'
    options = {**STEP, 'model.backbone.model_args': dict(embed_dim=24, depth=1, num_heads=2)}
    options['model.neck.in_channels'] = 24
    mvp_mm.pretrain(
        image_folder, out, 'timm:vit_tiny_patch16_224/random', RANDOM_TEACHER, 1, 4, options=options
    )
    mvp_mm.pretrain(
        image_folder, out, 'timm:vit_tiny_patch16_224/random', RANDOM_TEACHER, 2, 4, options=options
    )
    report = export('timm', str(out / 'epoch_2.pth'), tmp_path / 'student.safetensors')
    network = timm.create_model(
        'vit_tiny_patch16_224',
        checkpoint_path=str(tmp_path / 'student.safetensors'),
        **dict(embed_dim=24, depth=1, num_heads=2, num_classes=0, img_size=224),
    )
    assert report.passed and network(torch.zeros(1, 3, 224, 224)).shape == (1, 24)
