"""CoCoOp with OpenAI's CLIP ViT-B/16 on ImageNet-1K: 16 shots of the base classes, tested on base and new ones.

Command:  python tools/train.py configs/prompts/cocoop_vitb16_imagenet.py
Cost:     8,000 steps of one image and 500 prompts an epoch. GPU-hours: not measured by this project. A test
          encodes a thousand prompts for each image.
Expected: averages over 11 sets, 16 shots, base / new / H: 80.47 / 71.69 / 75.83, CLIP 69.34 / 74.22 / 71.70
          by hand-written prompts (CoCoOp's paper, Table 1).
Measured: not trained by this project. Tests run it at debug size; docs/prompts.md has the scenes.

Options as of coop_vitb16_imagenet.py; of one image at a time, more GPUs scale the learning rate linearly.
"""

_base_ = './coop_vitb16_imagenet.py'

model = dict(
    prompts=dict(_delete_=True, type='CoCoOp', init='a photo of a'),  # CoCoOp §4
)

train_dataloader = dict(batch_size=1, sampler=dict(total_batch=1))  # CoCoOp §4
epochs = 10  # CoCoOp §4
param_scheduler = [
    dict(type='ConstantLR', factor=1e-5 / 0.002, by_epoch=True, begin=0, end=2),
    dict(type='CosineAnnealingLR', T_max=epochs, eta_min=0.0, by_epoch=True, begin=1, end=epochs + 1),
]
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
default_hooks = dict(checkpoint=dict(interval=epochs))
auto_scale_lr = dict(base_batch_size=1)
