"""BEiT's fine-tuning schedule at base size: AdamW with layer decay, 100 epochs, total batch 1024."""

optim_wrapper = dict(
    type='MVPOptimWrapper',
    precision='auto',  # bf16 on CUDA, float32 on a CPU (there: --amp)
    optimizer=dict(
        type='AdamW',
        lr=4e-3,  # BEiT recipe, base
        weight_decay=0.05,  # BEiT recipe
        betas=(0.9, 0.999),  # BEiT recipe
        eps=1e-8,  # BEiT recipe
    ),
    # no clip_grad: BEiT recipe
    # BEiT recipe: no decay on 1-d parameters, biases and CLS; the rate falls with depth.
    constructor='MVPOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.65),  # BEiT recipe, base
)

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6 / 4e-3,  # from 1e-6; BEiT starts at 0, which MMEngine cannot
        by_epoch=True,
        begin=0,
        end=20,  # BEiT recipe, base
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-6 / 4e-3,  # to 1e-6 (BEiT recipe), times each depth's factor as in BEiT's code
        by_epoch=True,
        begin=20,
        end=100,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100, val_interval=1)  # BEiT recipe, base

# The total batch that the learning rate belongs to. tools/train.py accumulates gradients to keep it.
auto_scale_lr = dict(base_batch_size=1024, enable=False)  # BEiT recipe
