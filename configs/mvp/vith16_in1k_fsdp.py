"""MVP for a larger student than the paper's, ViT-H/16, sharded over the GPUs by FSDP.

Command:  bash tools/dist_train.sh configs/mvp/vith16_in1k_fsdp.py 8
Cost:     187,500 steps of 2048 images. GPU-hours and memory: not measured by this project.
Expected: not known; the paper has no ViT-H.
Measured: not trained by this project. At debug size its losses on two CPU processes are those of DDP.

MMEngine's FlexibleRunner and FSDPStrategy run it. When to use it, and what it lacks compared with the
other configs' runner: docs/reliability.md, "DDP or FSDP".
"""

_base_ = './vitb16_in1k.py'

model = dict(
    backbone=dict(
        arch=dict(  # ViT-H (arXiv:2010.11929, Table 1)
            _delete_=True, embed_dims=1280, num_layers=32, num_heads=16, feedforward_channels=5120
        ),
        layer_scale_init_value=1e-5,  # BEiT recipe, large
    ),
    neck=dict(in_channels=1280),  # the teacher stays CLIP ViT-B/16 (paper §3.3.3)
)
train_dataloader = dict(batch_size=64)

runner_type = 'FlexibleRunner'
strategy = dict(
    type='FSDPStrategy',
    model_wrapper=dict(
        type='MMFullyShardedDataParallel',
        auto_wrap_policy=dict(type='each_block'),
        use_orig_params=True,  # weight decay by parameter needs them
    ),
    state_dict_cfg='full',  # checkpoints as any other run's, for any number of GPUs
)
# x 8 GPUs x 64 images = 2048. FlexibleRunner does not fit it to the number of GPUs.
optim_wrapper = dict(accumulative_counts=4, sharded=True)
default_hooks = dict(  # without the hook that saves on a signal, which needs this package's own runner
    _delete_=True,
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
