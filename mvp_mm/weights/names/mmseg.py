"""Names of mmseg's ``VisionTransformer``, which holds torch's attention; its ``BEiT`` has mmpretrain's."""

from .scheme import NamingScheme

VIT = NamingScheme(
    blocks='layers.',
    outside={},
    inside={
        'attn.qkv.weight': 'attn.attn.in_proj_weight',
        'attn.qkv.bias': 'attn.attn.in_proj_bias',
        'attn.proj.': 'attn.attn.out_proj.',
    },
)
