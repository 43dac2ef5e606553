"""RILS, ViT-B/16, on 20 million image-text pairs of LAION-400M (arXiv 2301.06958).

Command:  bash tools/dist_train.sh configs/rils/vitb16_l20m.py 8
          On 16 GPUs: train_dataloader.batch_size=256. The batch is never made by accumulation.
Cost:     122,050 steps of 4096 pairs. GPU-hours: not measured by this project.
Expected: not known: the paper's figures are not public as text, and its authors released no weights.
Measured: not trained by this project.

The authors released model and losses, but no recipe: what is marked SLIP is that code base's recipe in its
place. What is whose, memory by GPU, and the authors' gradients as an option: docs/rils.md.
"""

_base_ = '../_base_/default_runtime.py'

text_encoder = 'ViT-B-16-quickgelu'  # 512 wide, 8 heads, 12 layers, as CLIP's; joint width 512
model = dict(
    type='RILS',
    data_preprocessor=dict(
        type='MVPDataPreprocessor',
        mean=[123.675, 116.28, 103.53],  # SLIP: ImageNet's
        std=[58.395, 57.12, 57.375],
    ),
    backbone=dict(
        type='MVPViT',
        arch='base',
        img_size=224,
        patch_size=16,
        out_type='raw',
        final_norm=True,
        norm_cfg=dict(type='LN', eps=1e-6),
        bias='qv_bias',
        use_rel_pos_bias=False,
        use_abs_pos_emb='sincos',  # fixed
        layer_scale_init_value=0,
        drop_path_rate=0,
    ),
    text_encoder=text_encoder,
    decoder=dict(type='RILSDecoder', depth=1),
    contrastive_loss=dict(type='ContrastiveLoss'),
    reconstruction_loss=dict(
        type='LanguageReconstructionLoss', student_temperature=0.1, teacher_temperature=0.04
    ),
    reconstruction_weight=0.5,
)

pipeline = [
    # SLIP: no flip, no jitter; this crop is bicubic, SLIP's bilinear
    dict(type='FastCrop', size=224, scale=(0.5, 1.0), flip=0, brightness=0, contrast=0, saturation=0),
    dict(type='RandomMask', input_size=14, mask_ratio=0.75),
    dict(type='TokenizeCaption', model_name=text_encoder),
    dict(type='PackMaskedInputs', fields=('text',)),
]
train_dataloader = dict(
    batch_size=512,  # x 8 GPUs = 4096 (SLIP)
    num_workers=16,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='EpochSampler', total_batch=4096, shuffle=True),
    dataset=dict(type='ImageTextShards', data_root='data/laion400m/l20m/*.tar', pipeline=pipeline),
)

optim_wrapper = dict(
    type='MVPOptimWrapper',
    precision='auto',  # bf16 on CUDA; the losses are float32
    optimizer=dict(
        type='AdamW',
        lr=3e-3,  # SLIP
        weight_decay=0.1,  # SLIP
        betas=(0.9, 0.98),  # SLIP
        eps=1e-8,  # SLIP
    ),
    constructor='MVPOptimWrapperConstructor',  # SLIP: no decay on 1-d parameters; ours neither on CLS
    max_skipped_steps=20,
)
warmup, epochs = 1, 25  # SLIP
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6 / 3e-3,  # SLIP
        by_epoch=True,
        begin=0,
        end=warmup,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-5 / 3e-3,  # SLIP
        by_epoch=True,
        begin=warmup,
        end=epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs)
auto_scale_lr = dict(base_batch_size=4096, enable=False)  # SLIP
custom_hooks = [dict(type='ThroughputHook'), dict(type='UnreadableImagesHook', max_share=0.1)]
