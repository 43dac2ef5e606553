"""CoOp's schedule: SGD, cosine by the epoch, after one epoch at 1e-5 (the authors' vit_b16.yaml)."""

epochs = 200  # CoOp §4.1: 200 for 16 or 8 shots, 100 for 4 or 2, 50 for 1

optim_wrapper = dict(
    type='MVPOptimWrapper',
    precision='auto',
    optimizer=dict(type='SGD', lr=0.002, momentum=0.9, weight_decay=5e-4),  # CoOp, decay of all parameters
)
param_scheduler = [
    # `end` is the epoch after which MMEngine goes back to lr.
    dict(type='ConstantLR', factor=1e-5 / 0.002, by_epoch=True, begin=0, end=2),
    # The cosine begins with the second epoch and is as long as the training: it ends a step above 0.
    dict(type='CosineAnnealingLR', T_max=epochs, eta_min=0.0, by_epoch=True, begin=1, end=epochs + 1),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=epochs)
auto_scale_lr = dict(base_batch_size=32, enable=False)  # CoOp
