"""Mask R-CNN with ViTDet's heads and simple feature pyramid on MVPViT-B/16 at 1024x1024.

ViTDet is Li et al., arXiv 2203.16527; "its code" is mask_rcnn_vitdet.py of detectron2. Types carry their scope.
"""

image_size = 1024  # ViTDet appendix A.2
norm_cfg = dict(type='mmpretrain.LN2d', eps=1e-6)  # ViTDet appendix A.1: LN in the pyramid and in both heads
delta = dict(type='mmdet.DeltaXYWHBBoxCoder', target_means=[0.0, 0.0, 0.0, 0.0])
roi_layer = dict(type='RoIAlign', sampling_ratio=0)
levels = dict(type='mmdet.SingleRoIExtractor', out_channels=256, featmap_strides=[4, 8, 16, 32])

model = dict(
    type='mmdet.MaskRCNN',
    data_preprocessor=dict(
        type='mmdet.DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],  # ImageNet, as in pre-training
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=image_size,  # its code: square images in training and in the test, padded by the mean
    ),
    backbone=dict(
        type='mmpretrain.MVPViT',
        arch='base',
        img_size=image_size,
        patch_size=16,
        out_type='featmap',
        out_indices=-1,  # ViTDet §3: the last map only
        final_norm=False,  # its code: no norm before the pyramid
        use_rel_pos_bias=True,  # one table a block
        layer_scale_init_value=0.1,
        drop_path_rate=0.1,  # ViTDet appendix A.2, ViT-B with self-supervised weights
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
    neck=dict(type='mmdet.SimpleFeaturePyramid', in_channels=768, out_channels=256, norm_cfg=norm_cfg),
    rpn_head=dict(
        type='mmdet.RPNHead',
        in_channels=256,
        feat_channels=256,
        num_convs=2,  # ViTDet appendix A.1
        anchor_generator=dict(
            type='mmdet.AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]
        ),
        bbox_coder=dict(**delta, target_stds=[1.0, 1.0, 1.0, 1.0]),
        loss_cls=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type='mmdet.L1Loss', loss_weight=1.0),
    ),
    roi_head=dict(
        type='mmdet.StandardRoIHead',
        bbox_roi_extractor=dict(**levels, roi_layer=dict(**roi_layer, output_size=7)),
        bbox_head=dict(
            type='mmdet.Shared4Conv1FCBBoxHead',  # ViTDet appendix A.1
            in_channels=256,
            conv_out_channels=256,
            fc_out_channels=1024,
            roi_feat_size=7,
            num_classes=80,
            norm_cfg=norm_cfg,
            bbox_coder=dict(**delta, target_stds=[0.1, 0.1, 0.2, 0.2]),
            reg_class_agnostic=False,
            loss_cls=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='mmdet.L1Loss', loss_weight=1.0),
        ),
        mask_roi_extractor=dict(**levels, roi_layer=dict(**roi_layer, output_size=14)),
        mask_head=dict(
            type='mmdet.FCNMaskHead',
            num_convs=4,
            in_channels=256,
            conv_out_channels=256,
            num_classes=80,
            norm_cfg=norm_cfg,
            loss_mask=dict(type='mmdet.CrossEntropyLoss', use_mask=True, loss_weight=1.0),
        ),
    ),
    # Mask R-CNN's own, as in mmdet's configs
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type='mmdet.MaxIoUAssigner',
                pos_iou_thr=0.7,
                neg_iou_thr=0.3,
                min_pos_iou=0.3,
                match_low_quality=True,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type='mmdet.RandomSampler',
                num=256,
                pos_fraction=0.5,
                neg_pos_ub=-1,
                add_gt_as_proposals=False,
            ),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=dict(
            nms_pre=2000, max_per_img=1000, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0
        ),
        rcnn=dict(
            assigner=dict(
                type='mmdet.MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=True,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type='mmdet.RandomSampler',
                num=512,
                pos_fraction=0.25,
                neg_pos_ub=-1,
                add_gt_as_proposals=True,
            ),
            mask_size=28,
            pos_weight=-1,
            debug=False,
        ),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=1000, max_per_img=1000, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0),
        rcnn=dict(
            score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100, mask_thr_binary=0.5
        ),
    ),
)
