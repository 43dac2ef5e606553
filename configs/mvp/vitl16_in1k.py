"""MVP, ViT-L/16, 300 epochs of ImageNet-1K (paper Tables 1 and 3).

Command:  bash tools/dist_train.sh configs/mvp/vitl16_in1k.py 8
Cost:     187,500 steps of 2048 images. GPU-hours: not measured by this project.
Expected: after fine-tuning, ImageNet-1K top-1 86.3, ADE20K mIoU 54.3 (paper).
Measured: not trained by this project.
"""

_base_ = './vitb16_in1k.py'

model = dict(
    backbone=dict(
        arch='large',  # paper §3.3.3
        layer_scale_init_value=1e-5,  # BEiT recipe, large
    ),
    neck=dict(in_channels=1024),  # the teacher stays CLIP ViT-B/16 (paper §3.3.3)
)
train_dataloader = dict(batch_size=128)  # accumulated to 2048 on 8 GPUs
