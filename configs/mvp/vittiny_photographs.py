"""MVP on small photographs: a four-layer student, the photographs' own CLIP as the teacher.

Command:  python tools/train.py configs/mvp/vittiny_photographs.py --amp
          (leave out --amp on a CPU without native bf16)
Cost:     2,000 steps of 64 photographs: 6.5 minutes, one of several processes on two cores of an Intel Xeon with AMX and
          avx512_bf16.
Expected: `excess`, the cosine above the best constant prediction, well above 0.
Measured: excess 0.328; by name 8.8 % of the seen classes and 5.1 % of those held out; of these 25.0 % by k-NN of
          its patches' mean, 27.4 % with CLS beside it, 37.0 % by a linear probe of both (docs/photographs.md). Seed 0, torch 2.14.1, 2026-11-27, the same Xeon.

The weights of that run are beside this file; docs/photographs_card.md tells where they come from.

Classes and recipe as configs/mvp/vittiny_scenes.py. Photographs of data/tiny_imagenet, of the 160 classes that no
training holds out; their names are not used here.
"""

_base_ = ['./vittiny_scenes.py', '../_base_/datasets/tiny_imagenet.py']

teachers = '{{ fileDirname }}/../teachers'
model = dict(
    target_generator=dict(
        model_name=teachers + '/clip_vittiny_photographs.json',
        pretrained=teachers + '/clip_vittiny_photographs.safetensors',
    ),
    neck=dict(out_channels=128),
)

mask = _base_.mask
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        **_base_.seen_photographs,
        pipeline=[
            # not from 0.08 as on larger photographs: so small a crop of 64 pixels shows nothing
            dict(type='FastCrop', size=64, scale=(0.4, 1.0)),
            mask,
            dict(type='PackMaskedInputs', meta_keys=('sample_idx',)),
        ],
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        **_base_.seen_photographs,
        split='val',
        fixed_draws=True,
        pipeline=[
            dict(type='LoadRGBImage'),
            dict(type='torchvision/Resize', size=64, interpolation='bicubic'),
            dict(type='torchvision/CenterCrop', size=64),
            mask,
            dict(type='PackMaskedInputs', meta_keys=('sample_idx',)),
        ],
    ),
)
test_dataloader = val_dataloader
evaluators = [
    dict(_base_.zero_shot_seen, of='both'),
    dict(_base_.zero_shot_held_out, of='both'),
    _base_.knn_held_out,
]
train_cfg = dict(val_interval=4)
