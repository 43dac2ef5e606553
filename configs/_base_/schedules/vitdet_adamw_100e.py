"""ViTDet's schedule of ViT-B (appendix A.2): AdamW with layer decay, 100 epochs of COCO in steps of 64 images."""

optim_wrapper = dict(
    type='MVPOptimWrapper',
    precision='auto',  # bf16 on CUDA
    optimizer=dict(
        type='AdamW',
        lr=1e-4,  # ViTDet appendix A.2, with MAE's weights
        weight_decay=0.1,  # ViTDet appendix A.2
        betas=(0.9, 0.999),  # ViTDet appendix A.2
    ),
    # BEiT's rule for what decays: not 1-d parameters (as in ViTDet), nor biases (which do there)
    constructor='MVPOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.7),  # ViTDet appendix A.2, ViT-B
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=250),  # ViTDet appendix A.2
    dict(
        type='MultiStepLR',
        by_epoch=False,
        milestones=[163889, 177546],  # ViTDet's code: at 89 % and 96 %
        gamma=0.1,
    ),
]
train_cfg = dict(
    type='IterBasedTrainLoop',
    max_iters=184375,  # ViTDet's code: 100 epochs of 118,000 images
    val_interval=36875,  # 20 epochs
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=64, enable=False)  # ViTDet appendix A.2
