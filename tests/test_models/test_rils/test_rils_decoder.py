import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS

from mvp_mm.models import MVPViT, RILSDecoder
from mvp_mm.models.backbones.sincos_positions import sincos_positions
from mvp_mm.weights.names.scheme import BEIT

# The authors' names and ours.
DECODER = {
    'decoder_embed.': 'embed.',
    'decoder_blocks.': 'layers.',
    'decoder_norm.': 'norm.',
    'decoder_pred.': 'predict.',
    '.norm1.': '.ln1.',
    '.norm2.': '.ln2.',
    '.mlp.fc1.': '.ffn.layers.0.0.',
    '.mlp.fc2.': '.ffn.layers.1.',
}


def test_reference(reference):
    """Visible pass, decoder and whole pass of the authors' network, 48 wide, 4 heads."""
    with np.load(reference / 'rils_network.npz') as file:
        numbers = {name: torch.from_numpy(file[name]) for name in file.files}
    weights = {name[2:]: value for name, value in numbers.items() if name.startswith('w.')}
    arch = dict(embed_dims=48, num_layers=2, num_heads=4, feedforward_channels=192)
    plain = dict(use_rel_pos_bias=False, use_abs_pos_emb='sincos', layer_scale_init_value=0.0)
    vit = MVPViT(arch, 64, out_type='raw', final_norm=True, **plain).double().eval()
    decoder = RILSDecoder(48, 4, grid=4).double().eval()
    for positions in (vit.pos_embed, decoder.positions):  # ours before theirs are loaded
        assert torch.allclose(positions, weights['pos_embed'], rtol=0, atol=1e-6)
    own = {name: value for name, value in weights.items() if 'decoder' not in name and name != 'mask_token'}
    vit.load_state_dict(BEIT.to_mmpretrain(own))
    theirs = dict(mask_token=weights['mask_token'])
    for name, value in weights.items():
        if name.startswith('decoder') and name != 'decoder_pos_embed':
            for old, new in DECODER.items():
                name = name.replace(old, new)
            theirs[name] = value
    decoder.load_state_dict(theirs)

    images, mask = numbers['images'], numbers['mask'].bool()
    visible = vit.encode_visible(images, mask)
    # Theirs are in the order of the noise that chose them.
    order = numbers['noise'].argsort(1)[:, :4].argsort(1)[..., None].expand(-1, -1, 48)
    latent = numbers['latent_visible']
    latent = torch.cat([latent[:, :1], latent[:, 1:].gather(1, order)], dim=1)
    for found, expected in (
        (visible, latent),
        (decoder(visible, mask), numbers['prediction']),
        (vit(images)[0], numbers['latent_full']),
    ):
        assert torch.allclose(found, expected, rtol=0, atol=1e-5)


def test_places_of_visible_and_masked_patches():
    torch.manual_seed(0)
    decoder = MODELS.build(dict(type='RILSDecoder', embed_dims=8, num_heads=2, grid=(2, 3), depth=0))
    visible = torch.randn(2, 1 + 2, 8)
    mask = torch.ones(2, 2, 3, dtype=torch.bool)
    mask[0, 0, 1] = mask[0, 1, 2] = mask[1, 0, 0] = mask[1, 1, 1] = False
    positions = sincos_positions((2, 3), 8, 1)[0]
    found = decoder(visible, mask)
    embedded = decoder.embed(visible)
    for image, places in enumerate(((2, 6), (1, 5))):  # behind CLS
        tokens = decoder.mask_token[0].expand(7, -1).clone()
        tokens[0], tokens[places[0]], tokens[places[1]] = embedded[image]
        expected = decoder.predict(decoder.norm(tokens + positions))
        assert torch.allclose(found[image], expected, atol=1e-6)


def test_sizes():
    decoder = RILSDecoder(16, 2, 4, out_channels=48)
    assert decoder(torch.zeros(2, 5, 16), torch.arange(16).expand(2, -1) >= 4).shape == (2, 17, 48)
    assert len(decoder.layers) == 1 and 'positions' not in decoder.state_dict()
    bound = (6 / (16 + 48)) ** 0.5  # Xavier
    assert 0.9 * bound < decoder.predict.weight.abs().max() <= bound
    with pytest.raises(ValueError, match=r'a mask of \(9,\) patches, but the grid is \(4, 4\)'):
        decoder(torch.zeros(1, 5, 16), torch.zeros(1, 9, dtype=torch.bool))
