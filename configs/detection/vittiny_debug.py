"""Mask R-CNN at debug size: the student of configs/mvp/vittiny_debug.py on any small dataset in COCO's format.

Command:  python tools/train.py configs/detection/vittiny_debug.py --cfg-options \
              train_dataloader.dataset.data_root=DIR val_dataloader.dataset.data_root=DIR \
              val_evaluator.ann_file=DIR/annotations/instances_val2017.json \
              model.backbone.init_cfg.checkpoint=FILE
          DIR: COCO's layout, with COCO's 80 categories; for others set metainfo.classes and both num_classes.
          FILE: a checkpoint of configs/mvp/vittiny_debug.py; from scratch: model.backbone.init_cfg=None
Cost:     two CPU cores, seconds for the two steps of the tests.
Expected: the loss falls. Images of 64 pixels are too small for COCO.
Measured: in tests only.

Same parts as configs/detection/vitdet_vitb16_coco.py; only sizes differ.
"""

_base_ = './vitdet_vitb16_coco.py'

size = (64, 64)
model = dict(
    data_preprocessor=dict(pad_size_divisor=64),
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
        img_size=64,
        patch_size=8,
    ),
    # strides 4 to 32 of patches of 8 pixels
    neck=dict(in_channels=96, out_channels=32, scales=(2, 1, 0.5, 0.25)),
    rpn_head=dict(in_channels=32, feat_channels=32, anchor_generator=dict(scales=[2])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32),
        bbox_head=dict(in_channels=32, conv_out_channels=32, fc_out_channels=64),
        mask_roi_extractor=dict(out_channels=32),
        mask_head=dict(in_channels=32, conv_out_channels=32),
    ),
)

train_pipeline = _base_.train_pipeline
train_pipeline[3].scale = size
train_pipeline[4].crop_size = size
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = size
train_dataloader = dict(dataset=dict(pipeline=train_pipeline, filter_cfg=dict(min_size=1)))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
