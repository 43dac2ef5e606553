"""MVP's pretext task with DINO ViT-B/16 as the teacher, 300 epochs of ImageNet-1K (paper Table 5).

Command:  bash tools/dist_train.sh configs/mvp/vitb16_in1k_dino.py 8
Cost:     as configs/mvp/vitb16_in1k.py.
Expected: after fine-tuning, ImageNet-1K top-1 83.6, ADE20K mIoU 47.0 (paper): a vision-only teacher.
Measured: not trained by this project.

DINO has no language space, so the targets are its last-layer tokens after the final norm.
"""

_base_ = './vitb16_in1k.py'

model = dict(
    neck=dict(out_channels=768),  # DINO's own width
    target_generator=dict(
        _delete_=True,
        type='TimmTargetGenerator',
        model_name='vit_base_patch16_224.dino',  # paper Table 5
        pretrained=True,
        patch_size=16,
    ),
)
