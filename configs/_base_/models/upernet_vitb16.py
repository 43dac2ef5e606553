"""UperNet on MVPViT-B/16 at 512x512 (SPEC: BEiT's segmentation recipe with the paper's numbers).

Types carry their scope, so that the config can be inherited from anywhere.
"""

norm_cfg = dict(type='SyncBN', requires_grad=True)  # BEiT recipe; BN on a CPU
model = dict(
    type='mmseg.WindowedEncoderDecoder',
    data_preprocessor=dict(
        type='mmseg.PackedSegPreprocessor',  # mmseg's, with one copy to the GPU for a batch
        size=(512, 512),  # paper §4.1
        mean=[123.675, 116.28, 103.53],  # ImageNet, as in pre-training
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        # images smaller than the crop are padded to it for the test, and their results cut back
        test_cfg=dict(size=(512, 512)),
    ),
    backbone=dict(
        type='mmpretrain.MVPViT',
        arch='base',
        img_size=512,  # paper §4.1
        patch_size=16,
        out_type='featmap',
        out_indices=(3, 5, 7, 11),  # BEiT recipe
        final_norm=False,  # BEiT recipe: no norm before the pyramid
        use_rel_pos_bias=True,  # one table a block
        layer_scale_init_value=0.1,
        drop_path_rate=0.1,  # BEiT recipe, base
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
    neck=dict(type='mmseg.Feature2Pyramid', embed_dim=768, rescales=[4, 2, 1, 0.5], norm_cfg=norm_cfg),
    decode_head=dict(
        type='mmseg.UPerHead',
        in_channels=[768, 768, 768, 768],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=768,  # BEiT recipe
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type='mmseg.FCNHead',
        in_channels=768,
        in_index=2,  # BEiT recipe
        channels=256,  # BEiT recipe
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4),  # BEiT recipe
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),  # BEiT recipe
)
