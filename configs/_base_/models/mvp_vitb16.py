"""MVP with a ViT-B/16 student and OpenAI's CLIP ViT-B/16 as the teacher (paper §3.3)."""

model = dict(
    type='MVP',
    data_preprocessor=dict(
        type='MVPDataPreprocessor',
        mean=[123.675, 116.28, 103.53],  # ImageNet, RGB, 0-255 (BEiT recipe)
        std=[58.395, 57.12, 57.375],
    ),
    backbone=dict(
        type='MVPViT',
        arch='base',  # paper §3.3.3
        img_size=224,  # paper §3.3.3
        patch_size=16,  # paper §3.3.3
        out_type='raw',
        with_mask_token=True,
        norm_cfg=dict(type='LN', eps=1e-6),  # BEiT recipe
        final_norm=True,  # BEiT recipe
        bias='qv_bias',  # BEiT recipe: none on the key
        use_rel_pos_bias=False,
        use_shared_rel_pos_bias=True,  # BEiT recipe
        use_abs_pos_emb=False,  # BEiT recipe
        layer_scale_init_value=0.1,  # BEiT recipe, base
        drop_path_rate=0.1,  # BEiT recipe
    ),
    neck=dict(type='MVPNeck', in_channels=768, out_channels=512),  # one layer: paper §3.4; Eq. 8
    target_generator=dict(
        type='CLIPTargetGenerator',
        model_name='ViT-B-16-quickgelu',  # paper §3.3.3: always B/16; OpenAI's weights use QuickGELU
        pretrained='openai',  # paper §3.3.1
        space='joint',  # paper Eq. 7
        patch_size=16,  # the student's
    ),
    loss=dict(type='MVPLoss', tokens='all', cls_weight=1.0),  # paper Eq. 9
)
