"""MVP at debug size: a four-layer student on 64x64 crops, a random two-layer CLIP as the teacher.

Command:  python tools/train.py configs/mvp/vittiny_debug.py \
              --cfg-options train_dataloader.dataset.data_root=DIR
Cost:     seconds an epoch on two CPU cores.
Expected: the loss falls. The weights are useless: the teacher is random. `mvp-mm pretrain --student vit-tiny`
          puts another in its place.
Measured: in tests only.

Same parts as configs/mvp/vitb16_in1k.py; only sizes differ. Tests run at this size; try a change of the code
with it.
"""

_base_ = './vitb16_in1k.py'

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
        img_size=64,
        patch_size=8,
    ),
    neck=dict(in_channels=96, out_channels=64),
    target_generator=dict(model_name='{{ fileDirname }}/tiny_clip.json', pretrained=None, patch_size=8),
)

mask = dict(type='BlockwiseMask', input_size=8, num_masking_patches=24, min_num_patches=5)
train_pipeline = [
    dict(type='FastCrop', size=64),
    mask,
    dict(type='PackMaskedInputs'),
]
test_pipeline = [
    dict(type='LoadRGBImage'),
    dict(type='torchvision/Resize', size=72, interpolation='bicubic'),
    dict(type='torchvision/CenterCrop', size=64),
    mask,
    dict(type='PackMaskedInputs'),
]
train_dataloader = dict(
    batch_size=8,  # so that a folder of eight images is enough
    num_workers=1,
    sampler=dict(total_batch=16),
    dataset=dict(pipeline=train_pipeline),
)
test_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-2,
        by_epoch=True,
        begin=2,
        end=10,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=10)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=10))
auto_scale_lr = dict(base_batch_size=16)
