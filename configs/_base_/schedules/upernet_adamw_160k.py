"""BEiT's segmentation schedule: AdamW with layer decay, warm-up and poly, 160K steps of 16 images."""

optim_wrapper = dict(
    type='MVPOptimWrapper',
    precision='auto',
    optimizer=dict(
        type='AdamW',
        lr=3e-4,  # paper §4.1, ViT-B
        weight_decay=0.05,  # BEiT recipe
        betas=(0.9, 0.999),
    ),
    constructor='MVPOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.65),  # BEiT's base config for self-supervised weights (inferred)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),  # BEiT recipe
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=160000),  # BEiT recipe
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)  # paper §4.1
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=16, enable=False)  # paper §4.1
