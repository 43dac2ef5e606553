"""Check that training works: over-fit 64 photographs with fixed crops and masks.

Command:  python tools/train.py configs/mvp/vittiny_overfit.py --work-dir W \
              --cfg-options train_dataloader.dataset.data_root=DIR
          python tools/test.py configs/mvp/vittiny_overfit.py W/epoch_600.pth \
              --cfg-options test_dataloader.dataset.data_root=DIR
Cost:     minutes on two CPU cores.
Expected: mean cosine above 0.9, and at least 0.3 above `constant`, what predicting each position's mean
          target scores; `shuffled`, the score against other images' targets, far below both.
Measured: 0.949 against 0.394; shuffled 0.120 (benchmarks/results/overfit_cpu_2026-11-23.md).
"""

_base_ = './vittiny_debug.py'

model = dict(
    backbone=dict(
        arch=dict(embed_dims=192, num_heads=6, feedforward_channels=768),
        drop_path_rate=0.0,  # memorising is the point here
    ),
    neck=dict(in_channels=192),
)

train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    sampler=dict(total_batch=64),
    dataset=dict(indices=64, fixed_draws=True, pipeline=_base_.test_pipeline),
)
test_dataloader = dict(dataset=dict(split='train', indices=64))

optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=0.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=50, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-2,
        by_epoch=True,
        begin=50,
        end=600,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=600)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=600))
auto_scale_lr = dict(base_batch_size=64)
