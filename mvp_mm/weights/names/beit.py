"""Names of Microsoft's BEiT and BEiT v2, which timm's ``Beit`` shares."""

from .scheme import NamingScheme

BEIT = NamingScheme(
    blocks='blocks.',
    outside={'patch_embed.projection.': 'patch_embed.proj.', 'ln1.': 'norm.', 'ln2.': 'fc_norm.'},
    inside={
        'ln1.': 'norm1.',
        'ln2.': 'norm2.',
        'ffn.layers.0.0.': 'mlp.fc1.',
        'ffn.layers.1.': 'mlp.fc2.',
    },
)
