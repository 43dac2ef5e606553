"""CoOp with OpenAI's CLIP ViT-B/16 on ImageNet-1K: 16 shots of the base classes, tested on base and new ones.

Command:  python tools/train.py configs/prompts/coop_vitb16_imagenet.py
          Few-shot learning of all classes instead: --cfg-options model.classes=all
          train_dataloader.dataset.classes=all. Other draws: train_dataloader.dataset.seed=1 randomness.seed=1.
          Four vectors from words: model.prompts.init="a photo of a"
          model.prompts.num_context=4 (the comparison in CoCoOp's paper).
          Epochs by shots: 200 for 16 and 8, 100 for 4 and 2, 50 for one: train_dataloader.dataset.shots=4
          train_cfg.max_epochs=100 param_scheduler.1.T_max=100. CoOp's authors take 50 on ImageNet.
          A student that speaks instead of CLIP: docs/prompts.md.
Cost:     250 steps of 32 images an epoch. GPU-hours: not measured by this project.
Expected: averages over 11 sets, 16 shots, base / new / H: CLIP 69.34 / 74.22 / 71.70 by hand-written prompts,
          CoOp 82.69 / 63.22 / 71.66 (CoCoOp's paper, Table 1).
Measured: not trained by this project. Tests run it at debug size; docs/prompts.md has the scenes.
"""

_base_ = [
    '../_base_/datasets/imagenet_finetune.py',
    '../_base_/schedules/prompts_sgd.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='PromptClassifier',
    speaker=dict(type='CLIPTargetGenerator', model_name='ViT-B-16-quickgelu', pretrained='openai'),
    prompts=dict(type='CoOp', num_context=16, position='end', class_specific=False),  # CoOp §3.1
    class_names='imagenet',  # the curated names of CLIP's authors
    classes='base',  # CoCoOp §4.1
)

train_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mvp_mm'),
    # torchvision's defaults: scale 0.08 to 1
    dict(type='RandomResizedCrop', scale=224, interpolation='bicubic', backend='pillow'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', _scope_='mvp_mm'),
    dict(type='ResizeEdge', scale=224, edge='short', interpolation='bicubic', backend='pillow'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=32,
    sampler=dict(total_batch=32),
    dataset=dict(
        _delete_=True,
        type='FewShot',
        shots=16,
        seed=1,
        classes='base',
        dataset=dict(
            type='LabelledImages', data_root=_base_.data_root, split='train', pipeline=train_pipeline
        ),
    ),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
val_evaluator = [dict(type='BaseToNew')]
test_dataloader = val_dataloader
test_evaluator = val_evaluator

custom_hooks = [dict(type='ThroughputHook'), dict(type='LearntPromptsHook')]
# The last step counts, as in the papers: no best one is kept.
default_hooks = dict(checkpoint=dict(interval=_base_.epochs))
