"""Runtime shared by every config: scope, hooks, logs, seeds."""

custom_imports = dict(imports=['mvp_mm'], allow_failed_imports=False)
default_scope = 'mmpretrain'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    stop=dict(type='StopOnSignalHook'),  # SIGTERM and Ctrl-C save a checkpoint first
)

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),  # gloo is taken where there is no GPU
)

vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(type='UniversalVisualizer', vis_backends=vis_backends)
log_processor = dict(
    window_size=50,
    # averaged over the window like the loss, where MMEngine would show the last iteration's value
    mean_pattern=r'.*(loss|time|data_time|grad_norm|cosine_|retrieval_|images_per_second).*',
)
log_level = 'INFO'

load_from = None
resume = False
randomness = dict(seed=0, deterministic=False)
