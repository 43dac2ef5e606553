"""BEiT-style pre-training on the embedded scenes, through mmpretrain's own classes: a baseline for MVP.

Command:  python tools/train.py configs/mvp/vittiny_scenes_beit.py
Cost:     as configs/mvp/vittiny_scenes.py, less the teacher's forward pass.
Expected: below CLIP as the teacher downstream (paper Tables 1 and 2).
Measured: trained in tests only, for two steps.

The student predicts which of 256 typical patches each masked patch is. BEiT's tokenizer is a d-VAE trained on
250 million images; here it is k-means over patches. The same scenes, crops, masks and steps.
"""

_base_ = './vittiny_scenes_simmim.py'

custom_imports = dict(imports=['mvp_mm.models.baselines.patch_codebook'])

model = dict(
    type='BEiT',
    data_preprocessor=dict(
        type='TwoNormDataPreprocessor',
        second_mean=[0.0, 0.0, 0.0],
        second_std=[255.0, 255.0, 255.0],
    ),
    neck=None,
    head=dict(
        _delete_=True,
        type='BEiTV1Head',
        embed_dims=96,
        num_embed=256,
        loss=dict(type='CrossEntropyLoss'),
    ),
    target_generator=dict(type='PatchCodebook', num_tokens=256, patch_size=8),
)
two_pictures = [
    *_base_.train_pipeline[:2],
    dict(type='PILToNumpy'),
    dict(
        type='RandomResizedCropAndInterpolationWithTwoPic',
        size=64,
        second_size=64,
        interpolation='bicubic',
        second_interpolation='bicubic',
        scale=(0.4, 1.0),
    ),
    dict(type='BEiTMaskGenerator', input_size=(8, 8), num_masking_patches=24, min_num_patches=5),
]
train_dataloader = dict(dataset=dict(pipeline=[*two_pictures, _base_.pack]))
