"""The target generator of a vision-only teacher that configs/teachers/dino_vittiny_*.py has trained."""

dino_vittiny = dict(
    type='TimmTargetGenerator',
    model_name='vit_tiny_patch16_224',
    model_args=dict(
        img_size=64,
        patch_size=8,
        embed_dim=128,
        depth=4,
        num_heads=4,
        # it was trained with ImageNet's statistics, not with this timm model's
        pretrained_cfg_overlay=dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    ),
    patch_size=8,
)
