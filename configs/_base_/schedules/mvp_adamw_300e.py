"""BEiT's pre-training schedule for MVP: AdamW, warm-up and cosine, 300 epochs, total batch 2048."""

optim_wrapper = dict(
    type='MVPOptimWrapper',
    precision='auto',  # bf16 on CUDA, float32 on a CPU (there: --amp)
    optimizer=dict(
        type='AdamW',
        lr=1.5e-3,  # paper §3.3.3
        weight_decay=0.05,  # paper §3.3.3
        betas=(0.9, 0.999),  # BEiT recipe
        eps=1e-8,  # BEiT recipe
    ),
    clip_grad=dict(max_norm=3.0),  # BEiT recipe
    max_skipped_steps=20,
    # BEiT recipe: no decay on 1-d parameters (norms, layer scale), biases, CLS and positions. The mask
    # token and the bias tables do decay.
    constructor='MVPOptimWrapperConstructor',
)

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6 / 1.5e-3,  # from 1e-6; BEiT starts at 0, which MMEngine cannot
        by_epoch=True,
        begin=0,
        end=10,  # BEiT recipe
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-5 / 1.5e-3,  # to 1e-5 (BEiT recipe); a ratio, so that it scales with the rate
        by_epoch=True,
        begin=10,
        end=300,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300)  # paper §3.3.3

# The total batch that the learning rate belongs to. tools/train.py accumulates gradients to keep it.
auto_scale_lr = dict(base_batch_size=2048, enable=False)  # BEiT recipe
