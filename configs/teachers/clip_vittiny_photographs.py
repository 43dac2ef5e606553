"""The teacher of small photographs: a tiny CLIP (open_clip) from the names of Tiny-ImageNet's classes.

Command:  python tools/train_teacher.py configs/teachers/clip_vittiny_photographs.py --amp
          (leave out --amp on a CPU without native bf16)
Cost:     4,000 steps of 128 photographs: 20 minutes, one of several processes on two cores of an Intel Xeon with AMX and
          avx512_bf16.
Expected: by names far above chance, 0.6 % on the 160 classes that are seen; above 2.5 % on the 40 held out.
Measured: 22.6 % of the seen classes by name, 6.3 % of those held out; of these 37.0 % by k-NN, 41.7 % by a linear probe. Seed 0,
          torch 2.14.1, 2026-11-27, the same Xeon.

The weights of that run are beside this file; docs/photographs_card.md tells where they come from.

A caption is one of CLIP's 7 short templates around one of a class's names, drawn for each sample. The classes
that are held out, and data/tiny_imagenet: configs/_base_/datasets/tiny_imagenet.py. The text encoder reads words,
not CLIP's tokens, of which 32,000 photographs use a few hundred; words that only the names held out have are
listed as unseen.
"""

_base_ = ['./clip_vittiny_scenes.py', '../_base_/datasets/tiny_imagenet.py']

model = dict(_delete_=True, type='OpenCLIP', model_name='{{ fileDirname }}/clip_vittiny_photographs.json')

pipeline = [
    dict(type='FastCrop', size=64, scale=(0.5, 1.0), flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4),
    dict(type='PackInputs', meta_keys=('sample_idx', 'caption')),
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        **_base_.seen_photographs,
        templates='simple',
        require_caption=True,
        pipeline=pipeline,
    ),
)
val_dataloader = None
val_evaluator = None
val_cfg = None

epochs = 16
param_scheduler = [dict(_base_.param_scheduler[0]), dict(_base_.param_scheduler[1], end=epochs)]
train_cfg = dict(max_epochs=epochs)
