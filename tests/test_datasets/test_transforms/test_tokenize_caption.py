import pickle
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from mmpretrain.registry import TRANSFORMS

from mvp_mm.datasets import PackMaskedInputs, TokenizeCaption

SCENES = str(Path(__file__).parents[3] / 'configs/teachers/clip_vittiny_scenes.json')


def test_words_and_packing():
    step = pickle.loads(pickle.dumps(TokenizeCaption(SCENES)))  # as a loader's worker gets it
    sample = step.transform(dict(img=np.zeros((8, 8, 3), np.uint8), caption='a red star'))
    assert sample['text'].dtype == torch.int64 and sample['text'].shape == (20,)
    assert step._tokenizer.decode(sample['text'][:5].tolist()) == '<start> a red star <end>'
    packed = PackMaskedInputs(fields=('text',)).transform(sample)
    assert torch.equal(packed['text'], sample['text'])


def test_clips_own_tokens():
    step = TRANSFORMS.build(dict(type='TokenizeCaption', model_name='ViT-B-16-quickgelu', key='title'))
    expected = open_clip.tokenize('a diagram')[0]
    assert torch.equal(step.transform(dict(title='a diagram'))['text'], expected)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="no 'caption' in words, but img"):
        TokenizeCaption(SCENES).transform(dict(img=0))
    with pytest.raises(ValueError, match="'ish' is not in the vocabulary"):
        TokenizeCaption(SCENES).transform(dict(caption='a green-ish star'))
