"""A small CLIP whose text tower knows some words."""

import open_clip
import pytest
import torch

from mvp_mm.models import TextEncoder
from mvp_mm.models.speaking.text_tower import TextTower
from mvp_mm.text.tokenize import WordTokenizer

WORDS = ('a', 'photo', 'of', 'red', 'blue', 'circle', 'big', 'star', '.')
CONTEXT = 12


def small_clip(**text):
    torch.manual_seed(0)
    vision = dict(image_size=16, patch_size=8, width=16, layers=1, head_width=8)
    tower = dict(context_length=CONTEXT, vocab_size=len(WORDS) + 3, width=16, heads=2, layers=2)
    clip = open_clip.CLIP(32, vision, tower | text).eval()
    with torch.no_grad():
        for value in clip.parameters():
            value.add_(torch.randn_like(value) * 0.1)
    return clip


@pytest.fixture
def clip():
    return small_clip()


@pytest.fixture
def tower(clip):
    return TextTower(TextEncoder(clip), WordTokenizer(WORDS, CONTEXT), 20.0, 'abc', 'small')
