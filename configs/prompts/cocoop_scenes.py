"""CoCoOp on the embedded scenes, with the embedded CLIP: 16 shots of 32 base classes, tested on 32 new ones too.

Command:  python tools/train.py configs/prompts/cocoop_scenes.py
Cost:     5,120 steps of one scene. With images embedded once, as experiments/prompts does, 15 core-seconds a run
          of an Intel Xeon with AMX.
Expected: base classes above hand-written prompts, such as `a red circle` (base / new / H: 65.0 / 63.6 / 64.3 %).
Measured: base / new / H 66.8 / 62.6 / 64.6 %, mean of three seeds (torch 2.14.1, 2026-11-26; docs/prompts.md).

See coop_scenes.py.
"""

_base_ = './coop_scenes.py'

model = dict(prompts=dict(_delete_=True, type='CoCoOp', init='a', closing=''))

train_dataloader = dict(batch_size=1, sampler=dict(total_batch=1))  # CoCoOp §4
epochs = 10  # CoCoOp §4
param_scheduler = [
    dict(type='ConstantLR', factor=1e-5 / 0.002, by_epoch=True, begin=0, end=2),
    dict(type='CosineAnnealingLR', T_max=epochs, eta_min=0.0, by_epoch=True, begin=1, end=epochs + 1),
]
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
default_hooks = dict(checkpoint=dict(interval=epochs))
auto_scale_lr = dict(base_batch_size=1)
