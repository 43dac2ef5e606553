"""RILS on small photographs, from a cold start: Tiny-ImageNet, 64x64, class names as captions.

Command:  python tools/train.py configs/rils/vittiny_photographs.py --amp
          (leave out --amp on a CPU without native bf16)
Cost:     4,000 steps of 128 photographs: 32 minutes, one of two processes on two cores of an Intel Xeon with AMX
          and avx512_bf16.
Expected: zero-shot accuracy above chance on the 160 classes that are seen: 0.6 %. How far it carries to the
          40 that are held out, whose chance is 2.5 %, is what this config measures.
Measured: 23.1 % of seen, 6.0 % of held-out classes by name; 39.7 % of held-out ones by k-NN. Seed 0, torch
          2.14.1, 2026-11-27, the same Xeon.

The encoder and the recipe are those of vittiny_scenes.py, the text encoder reads CLIP's tokens. A caption is
one of CLIP's 7 short templates around one of a class's names, drawn for each sample; crops and mirror images do
not change what it says. data/tiny_imagenet and the comparison with CLIP alone: docs/rils.md.
"""

_base_ = ['./vittiny_scenes.py', '../_base_/datasets/tiny_imagenet.py']

text_encoder = '{{ fileDirname }}/vittiny_photographs.json'
model = dict(text_encoder=text_encoder)

pipeline = [
    dict(type='FastCrop', size=64, scale=(0.5, 1.0), flip=0.5, brightness=0, contrast=0, saturation=0),
    dict(type='RandomMask', input_size=8, mask_ratio=0.75),
    dict(type='TokenizeCaption', model_name=text_encoder),
    dict(type='PackMaskedInputs', meta_keys=('sample_idx',), fields=('text',)),
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        **_base_.seen_photographs,
        templates='simple',
        pipeline=pipeline,
    )
)
evaluators = [_base_.zero_shot_seen, _base_.zero_shot_held_out, _base_.knn_held_out]

epochs = 16
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=300),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-2,
        by_epoch=True,
        begin=0,
        end=epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=epochs, val_interval=4)
