"""A RILS of the smallest size, and its batches."""

import json

import torch

WORDS = ['a', 'red', 'blue', 'star', 'ring']
CAPTIONS = ['a red star', 'blue ring', 'a star', 'red', 'a blue star', 'ring', 'a red ring', 'blue star']


def write_text_config(folder):
    """Write an open_clip config with a vocabulary of five words."""
    text = dict(context_length=8, vocab_size=8, width=16, heads=2, layers=1)
    text['tokenizer_kwargs'] = dict(words=WORDS, templates=['a {}'])
    vision = dict(image_size=32, patch_size=8, width=32, layers=1, head_width=16)
    path = folder / 'text.json'
    path.write_text(json.dumps(dict(embed_dim=24, vision_cfg=vision, text_cfg=text)))
    return str(path)


def rils_config(text_encoder, **changes):
    """The config of a RILS on 32 pixels, 16 patches."""
    vit = dict(
        type='MVPViT',
        arch=dict(embed_dims=48, num_layers=2, num_heads=4, feedforward_channels=96),
        img_size=32,
        patch_size=8,
        out_type='raw',
        final_norm=True,
        use_rel_pos_bias=False,
        use_abs_pos_emb='sincos',
        layer_scale_init_value=0.0,
    )
    return dict(dict(type='RILS', backbone=vit, text_encoder=text_encoder), **changes)


def batch_of(model, size=8, seed=1):
    """Images, masks of 12 of 16 patches, and tokens of captions."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, 32, 32, generator=generator)
    mask = torch.rand(size, 16, generator=generator).argsort(1).argsort(1) >= 4
    return images, mask.view(size, 4, 4), model.tokenizer(CAPTIONS[:size])
