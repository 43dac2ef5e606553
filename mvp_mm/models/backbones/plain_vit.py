"""mmpretrain's plain vision transformers, such as MAE's, as students."""

from mmpretrain.models import VisionTransformer
from torch import nn

from .mvp_vit import MVPViT


def as_student(backbone: nn.Module) -> nn.Module:
    """Return a backbone as a :class:`.Student`, a plain transformer (MAE's, too) as the same ``MVPViT``."""
    if hasattr(backbone, 'encode_image'):
        return backbone
    if isinstance(backbone, VisionTransformer):
        student = _same_network(backbone)
        if student.state_dict().keys() == backbone.state_dict().keys():
            student.load_state_dict(backbone.state_dict())
            return student
    raise ValueError(
        f'a {type(backbone).__name__} has no encode_image(images, mask=None) and is no plain transformer of '
        'mmpretrain, as MAE is: take a config that loads its weights into an MVPViT, as those in '
        'configs/upernet do for BEiT, MAE, DINO, MaskFeat and CAE'
    )


def _same_network(plain: VisionTransformer) -> MVPViT:
    block, projection = plain.layers[0], plain.patch_embed.projection
    return MVPViT(
        arch=plain.arch_settings,
        img_size=plain.img_size,
        patch_size=projection.kernel_size[0],
        in_channels=projection.in_channels,
        norm_cfg=dict(type='LN', eps=block.ln1.eps),
        bias=block.attn.qkv.bias is not None,
        final_norm=plain.final_norm,
        out_type='raw',
        with_cls_token=plain.cls_token is not None,
        use_abs_pos_emb=True,
        use_rel_pos_bias=False,
        interpolate_mode=plain.interpolate_mode,
        layer_scale_init_value=0,
        patch_cfg=dict(stride=projection.stride, bias=projection.bias is not None),
    )
