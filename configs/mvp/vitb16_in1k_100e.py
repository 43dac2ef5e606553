"""MVP, ViT-B/16, 100 epochs of ImageNet-1K (paper Table 4).

Command:  bash tools/dist_train.sh configs/mvp/vitb16_in1k_100e.py 8
Cost:     62,500 steps of 2048 images, a third of the 300-epoch run.
Expected: after fine-tuning, ImageNet-1K top-1 83.9, ADE20K mIoU 52.0 (paper).
Measured: not trained by this project.

The paper does not say how the schedule is shortened; here the cosine ends at epoch 100 and the warm-up
stays at 10 epochs.
"""

_base_ = './vitb16_in1k.py'

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6 / 1.5e-3,
        by_epoch=True,
        begin=0,
        end=10,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-5 / 1.5e-3,
        by_epoch=True,
        begin=10,
        end=100,  # paper Table 4
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=100)  # paper Table 4
