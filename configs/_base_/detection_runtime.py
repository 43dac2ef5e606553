"""Runtime of the detection configs: mmdet's scope, everything counted in iterations."""

_base_ = './default_runtime.py'

custom_imports = dict(
    imports=['mvp_mm', 'mvp_mm.datasets.detection', 'mvp_mm.models.detection'],
    allow_failed_imports=False,
)
default_scope = 'mmdet'
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=3125, save_best='coco/bbox_mAP'))
custom_hooks = [dict(type='ThroughputHook'), dict(type='ClassCountHook')]
visualizer = dict(type='mmdet.DetLocalVisualizer')
log_processor = dict(by_epoch=False)
find_unused_parameters = False
