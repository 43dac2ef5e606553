"""RILS on the embedded scenes and their captions, from a cold start: nothing is pre-trained or downloaded.

Command:  python tools/train.py configs/rils/vittiny_scenes.py --amp
          (leave out --amp on a CPU without native bf16)
Cost:     3,120 steps of 128 scenes, 54 million multiply-adds an image forward. 0.37 s of a core a step, without
          the loader, beside other programs on two cores of an Intel Xeon with AMX and avx512_bf16.
Expected: the paper's claim is that contrast and reconstruction help one another: above
          vittiny_scenes_clip.py and vittiny_scenes_mae_clip.py of equal steps. Chance is 12.5 %.
Measured: after 1,000 steps, three seeds: shape by name 31.2 ± 1.7 %, colour 92.6 ± 0.9 %; both baselines of
          equal steps are within the spread (docs/rils.md). These 3,120 steps were not run.

The student is configs/mvp/vittiny_scenes.py's in size, with RILS's fixed positions. Captions, batch and steps
are those of the embedded CLIP (configs/teachers/clip_vittiny_scenes.py). Downstream: docs/rils.md.
"""

_base_ = ['../_base_/default_runtime.py', '../_base_/evaluators/scenes.py']

text_encoder = '{{ fileDirname }}/../teachers/clip_vittiny_scenes.json'
model = dict(
    type='RILS',
    data_preprocessor=dict(
        type='MVPDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        type='MVPViT',
        arch=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
        img_size=64,
        patch_size=8,
        out_type='raw',
        final_norm=True,
        use_rel_pos_bias=False,
        use_abs_pos_emb='sincos',
        layer_scale_init_value=0,
    ),
    text_encoder=text_encoder,
    decoder=dict(type='RILSDecoder'),
    reconstruction_loss=dict(type='LanguageReconstructionLoss'),
    reconstruction_weight=0.5,
)

pipeline = [  # no flip: captions say left and right; no crop: they name what stands at the border
    dict(type='RandomMask', input_size=8, mask_ratio=0.75),
    dict(type='TokenizeCaption', model_name=text_encoder),
    dict(type='PackMaskedInputs', meta_keys=('sample_idx',), fields=('text',)),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='EpochSampler', total_batch=128, shuffle=True),
    dataset=dict(type='SceneImages', count=40000, captions=True, pipeline=pipeline),
)
evaluators = [dict(_base_.scenes_shape, of='student'), dict(_base_.scenes_colour, of='student')]

epochs = 10
optim_wrapper = dict(
    type='MVPOptimWrapper',
    precision='auto',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05, betas=(0.9, 0.98), eps=1e-6),
    constructor='MVPOptimWrapperConstructor',
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=300),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-2,
        by_epoch=True,
        begin=0,
        end=epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=2))
auto_scale_lr = dict(base_batch_size=128, enable=False)
custom_hooks = [dict(type='ThroughputHook')]
