"""Fine-tune a tiny student on the embedded scenes: the shape of the main object. Also k-NN, without training.

Command:  python tools/train.py configs/finetune/vittiny_scenes.py --cfg-options \
              model.backbone.init_cfg.checkpoint=FILE
          python tools/knn.py configs/finetune/vittiny_scenes.py FILE
          FILE: a checkpoint of configs/mvp/vittiny_scenes*.py as it is. The colour instead of the shape:
          train_dataloader.dataset.label=colour, and the same for val_dataloader and test_dataloader.
Cost:     a minute or two on two CPU cores.
Expected: above 12.5 %, which is chance.
Measured: k-NN in docs/miniature.md; fine-tuned only in tests, for two steps.
"""

_base_ = './vittiny_debug.py'

model = dict(data_preprocessor=dict(to_rgb=False), head=dict(num_classes=8))  # scenes are RGB already

train_pipeline = [
    dict(type='torchvision/RandomHorizontalFlip', p=0.5),
    dict(type='torchvision/RandomResizedCrop', size=64, scale=(0.4, 1.0), interpolation='bicubic'),
    dict(type='PackInputs', meta_keys=('sample_idx',)),
]
test_pipeline = [dict(type='PackInputs', meta_keys=('sample_idx',))]
train_dataloader = dict(
    batch_size=64,
    sampler=dict(total_batch=64),
    dataset=dict(_delete_=True, type='SceneImages', label='shape', count=3000, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=100,
    dataset=dict(
        _delete_=True, type='SceneImages', split='val', label='shape', count=1000, pipeline=test_pipeline
    ),
)
test_dataloader = dict(
    batch_size=100,
    dataset=dict(
        _delete_=True, type='SceneImages', split='test', label='shape', count=2000, pipeline=test_pipeline
    ),
)
default_hooks = dict(logger=dict(interval=20))
auto_scale_lr = dict(base_batch_size=64)
