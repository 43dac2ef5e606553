"""Runtime of the segmentation configs: mmseg's scope, everything counted in iterations."""

_base_ = './default_runtime.py'

custom_imports = dict(
    imports=['mvp_mm', 'mvp_mm.datasets.segmentation', 'mvp_mm.models.segmentation'],
    allow_failed_imports=False,
)
default_scope = 'mmseg'
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=16000, save_best='mIoU'))
custom_hooks = [dict(type='ThroughputHook'), dict(type='ClassCountHook')]
visualizer = dict(type='mmseg.SegLocalVisualizer', alpha=0.6)
log_processor = dict(by_epoch=False)
find_unused_parameters = False
