"""MVP, ViT-B/16, with CLIP ViT-B/16 and DINOv2 ViT-B/14 as teachers at once, 300 epochs of ImageNet-1K.

Command:  bash tools/dist_train.sh configs/mvp/vitb16_in1k_clip_dinov2.py 8
Cost:     187,500 steps of 2048 images, each with a second teacher of the student's size: its log's first
          lines say what the two cost. Not measured.
Expected: not known; the paper has one teacher. Several teachers as in AM-RADIO (arXiv:2312.06709) and UNIC
          (arXiv:2408.05088), with MVP's loss for each.
Measured: not trained by this project. At two steps of debug size, in tests.

Targets are standardised per dimension by the first 100 batches. The student speaks through the head of CLIP.
"""

_base_ = './vitb16_in1k.py'

model = dict(
    type='MultiTeacherMVP',
    neck=dict(
        _delete_=True,
        type='MVPNecks',
        in_channels=768,
        out_channels=dict(clip=512, dinov2=768),
        standardise='dimensions',
    ),
    target_generator=dict(
        _delete_=True,
        type='TargetGenerators',
        patch_size=16,  # the student's
        teachers=dict(
            clip=dict(  # the paper's, as in configs/_base_/models/mvp_vitb16.py
                type='CLIPTargetGenerator', model_name='ViT-B-16-quickgelu', pretrained='openai'
            ),
            dinov2=dict(  # with registers: without them some patch tokens are outliers (arXiv:2309.16588)
                type='TimmTargetGenerator', model_name='vit_base_patch14_reg4_dinov2.lvd142m', pretrained=True
            ),
        ),
    ),
)
