"""CoOp on the embedded scenes, with the embedded CLIP: 16 shots of 32 base classes, tested on 32 new ones too.

Command:  python tools/train.py configs/prompts/coop_scenes.py
          A student instead of its teacher: docs/prompts.md. Options as of coop_vitb16_imagenet.py.
Cost:     3,200 steps of 32 scenes. With images embedded once, as experiments/prompts does, 10 core-seconds a run
          of an Intel Xeon with AMX.
Expected: base classes above hand-written prompts, such as `a red circle` (base / new / H: 65.0 / 63.6 / 64.3 %).
Measured: base / new / H 66.0 / 62.4 / 64.1 %, mean of three seeds (torch 2.14.1, 2026-11-26; docs/prompts.md).

A class is the colour and the shape of the main object, such as `red circle`. The classes of the first four
shapes are base, those of the other four new.
"""

_base_ = './coop_vitb16_imagenet.py'

shapes = ('circle', 'square', 'triangle', 'star', 'cross', 'ring', 'crescent', 'arrow')
colours = ('red', 'orange', 'yellow', 'green', 'cyan', 'blue', 'purple', 'pink')
teacher = '{{ fileDirname }}/../teachers/clip_vittiny_scenes'
model = dict(
    data_preprocessor=dict(to_rgb=False),  # scenes are RGB already
    speaker=dict(model_name=teacher + '.json', pretrained=teacher + '.safetensors', patch_size=8),
    # the vocabulary of the scenes has no "photo" and no dot
    prompts=dict(num_context=None, init='a', closing=''),
    class_names=[f'{colour} {shape}' for shape in shapes for colour in colours],
)

# No crop and no flip, as in the teacher's own training: prompts for crops are worse for whole scenes.
pipeline = [dict(type='PackInputs', meta_keys=('sample_idx',))]
scenes = dict(type='SceneImages', label='shape_colour')
train_dataloader = dict(
    num_workers=1,
    dataset=dict(dataset=dict(_delete_=True, split='train', count=3000, pipeline=pipeline, **scenes)),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(_delete_=True, split='val', count=1000, pipeline=pipeline, **scenes),
)
test_dataloader = dict(
    num_workers=1,
    dataset=dict(_delete_=True, split='test', count=2000, pipeline=pipeline, **scenes),
)
