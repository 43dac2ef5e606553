import json

import open_clip
import pytest
import torch
from torch import nn

from mvp_mm.models import TextEncoder

VISION = dict(image_size=16, patch_size=8, width=16, layers=1, head_width=8)
TEXT = dict(context_length=8, vocab_size=32, width=16, heads=2, layers=2)
TOKENS = torch.tensor([[1, 5, 9, 31, 0, 0, 0, 0], [1, 7, 31, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6, 7, 31]])


def clip(custom=False, **text):
    torch.manual_seed(0)
    build = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    model = build(12, VISION, {**TEXT, **text}).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value) * 0.1)
    return model


@torch.no_grad()
@pytest.mark.parametrize('custom', [False, True])
@pytest.mark.parametrize(
    'text',
    [
        dict(),
        dict(pool_type='eos', eos_id=31),
        dict(pool_type='last'),
        dict(pool_type='first', no_causal_mask=True, proj_bias=True),
        dict(proj_type='none'),
    ],
)
def test_tokens_are_encoded_as_by_open_clip(custom, text):
    if 'proj_type' in text:
        text = dict(text, width=12)
    model = clip(custom, **text)
    encoder = TextEncoder(model)
    expected = model.encode_text(TOKENS)
    torch.testing.assert_close(encoder.encode(TOKENS), expected, rtol=0, atol=1e-6)
    embeddings = model.get_submodule('text' if custom else '').token_embedding(TOKENS)
    torch.testing.assert_close(
        encoder.encode_embeddings(embeddings, encoder.end_of(TOKENS)), expected, rtol=0, atol=1e-6
    )


@torch.no_grad()
def test_what_follows_the_end_does_not_matter():
    """Under the causal mask a shorter context gives the same embedding."""
    encoder = TextEncoder(clip())
    embeddings = encoder.token_embedding(TOKENS[:2])
    short = encoder.encode_embeddings(embeddings[:, :4], torch.tensor([3, 2]))
    torch.testing.assert_close(short, encoder.encode(TOKENS[:2]), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match='9 embeddings, but the context is 8'):
        encoder.encode_embeddings(torch.zeros(1, 9, 16), torch.tensor([0]))


def test_a_prompt_learns_through_it():
    model = clip()
    encoder = TextEncoder(model)
    assert next(encoder.transformer.parameters()) is next(model.transformer.parameters())
    prompt = torch.randn(1, 8, 16, requires_grad=True)
    encoder.encode_embeddings(prompt, torch.tensor([5])).sum().backward()
    assert prompt.grad[:, :6].abs().sum(-1).min() > 0 and not prompt.grad[:, 6:].any()


@pytest.mark.parametrize(
    'text,match',
    [
        (dict(embed_cls=True), 'appends a CLS token'),
        (dict(pool_type='none'), 'does not choose one token'),
    ],
)
def test_other_towers_are_refused(text, match):
    with pytest.raises(ValueError, match=match):
        TextEncoder(clip(custom=True, **text))


def test_masked_padding_is_refused():
    model = clip(custom=True, no_causal_mask=True)
    model.text.use_pad_mask = True
    with pytest.raises(ValueError, match='masks padding'):
        TextEncoder(model)


def test_a_foreign_tower_is_refused():
    model = nn.Module()
    model.text = nn.Linear(1, 1)
    with pytest.raises(ValueError, match='it has no token_embedding.*expected open_clip'):
        TextEncoder(model)


def test_a_random_tower_to_train(tmp_path):
    config = dict(open_clip.get_model_config('ViT-B-16-quickgelu'))
    config['text_cfg'] = dict(config['text_cfg'], vocab_size=50, layers=2, context_length=9)
    path = tmp_path / 'tiny.json'
    path.write_text(json.dumps(config))
    torch.manual_seed(0)
    encoder = TextEncoder.from_config(str(path))
    assert encoder.out_channels == 512 and encoder.attn_mask.shape == (9, 9)
    assert all(value.requires_grad for value in encoder.parameters())
    assert type(encoder.transformer.resblocks[0].mlp.gelu).__name__ == 'QuickGELU'
    # CLIP's initialisation: embeddings normal(0, 0.02), projection normal(0, width^-0.5)
    assert encoder.token_embedding.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert encoder.text_projection.std().item() == pytest.approx(512**-0.5, rel=0.05)
    with pytest.raises(FileNotFoundError, match='no open_clip model config none.json'):
        TextEncoder.from_config('none.json')
    with pytest.raises(ValueError, match="open_clip knows no 'ViT-Z'"):
        TextEncoder.from_config('ViT-Z')
