import json
import math

import numpy as np
import open_clip
import pytest
import torch
from torch.nn import functional as F

from mvp_mm.models import CLIPTargetGenerator
from mvp_mm.models.target_generators.base import IMAGENET_MEAN, IMAGENET_STD
from mvp_mm.models.target_generators.cleaned_tokens import VARIANTS, neighbourhood

OF_REFERENCE = dict(
    last='vanilla_vanilla',
    value='maskclip_value',
    neighbour='reduced_naclip',
    kk='reduced_kk',
    csa='vanilla_csa',
)


def as_the_student_sees(images):
    """The crop whose renormalised form is ``images``, normalised for the teacher."""
    mean, std = (
        torch.tensor(values).view(3, 1, 1)
        for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    mean_s, std_s = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((images * std + mean) * 255 - mean_s) / std_s


@pytest.mark.parametrize('variant', VARIANTS)
def test_equals_the_reference(variant, tmp_path, reference):
    data = np.load(reference / 'clip_dense_tokens.npz')
    weights = {f'visual.{name[2:]}': torch.from_numpy(data[name]) for name in data if name.startswith('w.')}
    config = dict(
        embed_dim=32,
        quick_gelu=True,
        vision_cfg=dict(image_size=64, patch_size=16, width=128, layers=3, head_width=64),
        text_cfg=dict(context_length=8, vocab_size=64, width=32, heads=2, layers=1),
    )
    (tmp_path / 'reference.json').write_text(json.dumps(config))
    torch.save(weights, tmp_path / 'weights.pt')
    files = str(tmp_path / 'reference.json'), str(tmp_path / 'weights.pt')
    images = as_the_student_sees(torch.from_numpy(data['images']))
    expected = torch.from_numpy(data[f't.{OF_REFERENCE[variant]}'])
    tokens = CLIPTargetGenerator(*files, quick_gelu=True, tokens=variant)(images)
    assert (tokens - expected).abs().max() < 1e-5
    # with the image embedding in place of the changed block's CLS
    tokens = CLIPTargetGenerator(*files, quick_gelu=True, tokens=variant, clean_cls=False)(images)
    assert (tokens[:, 1:] - expected[:, 1:]).abs().max() < 1e-5
    assert (tokens[:, 0] - torch.from_numpy(data['t.vanilla_vanilla'])[:, 0]).abs().max() < 1e-5


def by_hand(block, tokens, grid, variant):
    """One image's last block, head by head and pair by pair, in float64."""
    state = {name: value.double() for name, value in block.state_dict().items()}
    heads, width = block.attn.num_heads, tokens.shape[-1]
    size = width // heads
    normed = F.layer_norm(tokens, (width,), state['ln_1.weight'], state['ln_1.bias'])
    query, key, value = (normed @ state['attn.in_proj_weight'].T + state['attn.in_proj_bias']).chunk(3, -1)
    mixed = torch.zeros_like(tokens)
    for head in range(heads):
        of_head = slice(head * size, (head + 1) * size)
        for i in range(len(tokens)):
            rows = [query[i, of_head] @ query[:, of_head].T, key[i, of_head] @ key[:, of_head].T]
            rows = [row / math.sqrt(size) for row in rows]
            if variant == 'neighbour' and i > 0:
                for j in range(1, len(tokens)):
                    (y, x), (v, u) = divmod(i - 1, grid[1]), divmod(j - 1, grid[1])
                    rows[1][j] += math.exp(-((y - v) ** 2 + (x - u) ** 2) / (2 * 5**2))
            weights = dict(
                csa=rows[0].softmax(0) + rows[1].softmax(0), value=F.one_hot(torch.tensor(i), len(tokens))
            )
            mixed[i, of_head] = weights.get(variant, rows[1].softmax(0)).double() @ value[:, of_head]
    mixed = mixed @ state['attn.out_proj.weight'].T + state['attn.out_proj.bias']
    if variant != 'csa':
        return mixed
    tokens = tokens + mixed
    normed = F.layer_norm(tokens, (width,), state['ln_2.weight'], state['ln_2.bias'])
    hidden = F.gelu(normed @ state['mlp.c_fc.weight'].T + state['mlp.c_fc.bias'])
    return tokens + hidden @ state['mlp.c_proj.weight'].T + state['mlp.c_proj.bias']


@pytest.mark.parametrize('variant', [variant for variant in VARIANTS if variant != 'last'])
def test_another_grid_than_in_training_equals_a_written_out_block(variant, tiny_clip):
    with torch.random.fork_rng():
        generator = CLIPTargetGenerator(
            tiny_clip('cleaned'), None, tokens=variant, patch_size=8, grid_matching='input'
        )
        torch.manual_seed(0)
        for parameter in generator.teacher.parameters():  # the initialisation hides mistakes
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
        images = torch.randn(1, 3, 24, 48)
    visual = generator.teacher
    seen = []
    visual.transformer.resblocks[-2].register_forward_hook(lambda _, __, output: seen.append(output))
    tokens = generator(images)
    assert tokens.shape[1] == 1 + 3 * 6
    mixed = by_hand(visual.transformer.resblocks[-1], seen[0][0].double(), (3, 6), variant)
    post = {name: value.double() for name, value in visual.ln_post.state_dict().items()}
    expected = F.layer_norm(mixed, mixed.shape[-1:], post['weight'], post['bias']) @ visual.proj.double()
    assert (tokens[0].double() - expected).abs().max() < 1e-5


def test_neighbourhood_is_a_gaussian_that_leaves_cls_alone():
    omega = neighbourhood((2, 3), 5.0, torch.device('cpu'))
    assert omega.shape == (7, 7) and torch.equal(omega, omega.T)
    assert omega[0].abs().max() == 0
    assert omega[1, 6].item() == pytest.approx(math.exp(-(1 + 4) / 50))


def test_unknown_variants_and_towers_of_timm_are_refused(tiny_clip, tmp_path):
    with pytest.raises(ValueError, match="tokens='first' is none of 'last', 'value'"):
        CLIPTargetGenerator(tiny_clip('unknown'), None, tokens='first')
    vision = dict(
        timm_model_name='vit_tiny_patch16_224', timm_pool='token', timm_proj='linear', image_size=224
    )
    text = dict(context_length=8, vocab_size=64, width=32, heads=2, layers=1)
    config = tmp_path / 'trunk.json'
    config.write_text(json.dumps(dict(embed_dim=24, vision_cfg=vision, text_cfg=text)))
    with pytest.raises(ValueError, match="tokens='kk' needs the attention of open_clip's own"):
        CLIPTargetGenerator(str(config), None, tokens='kk')
