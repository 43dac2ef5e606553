import json
from pathlib import Path

import open_clip
import pytest
import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from mvp_mm.models import CLIP
from mvp_mm.models.student import task_of

WORDS = ['a', 'red', 'blue', 'star', 'ring']


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'clip.json'
    text = dict(
        context_length=6, vocab_size=8, width=16, heads=2, layers=1, tokenizer_kwargs=dict(words=WORDS)
    )
    vision = dict(image_size=16, patch_size=8, width=16, layers=1, head_width=8)
    path.write_text(json.dumps(dict(embed_dim=12, vision_cfg=vision, text_cfg=text)))
    return str(path)


def samples(*captions):
    return [DataSample(metainfo=dict(caption=caption)) for caption in captions]


def test_loss_is_open_clips(config):
    torch.manual_seed(0)
    model = CLIP(config)
    images = torch.randn(3, 3, 16, 16)
    captions = ['a red star', 'blue ring', 'a star']
    expected = open_clip.ClipLoss()(*model.clip(images, model.tokenizer(captions)))
    assert model.loss(images, samples(*captions))['loss'].item() == pytest.approx(expected.item(), abs=1e-6)


@torch.no_grad()
def test_zero_shot_scores_are_cosines_with_mean_prompts(config):
    model = CLIP(config, prompts=dict(shape=[['red star', 'blue star'], ['red ring', 'blue ring']]))
    images = torch.randn(2, 3, 16, 16)
    (first, second) = model.predict(images, samples('', ''))
    text = model.clip.encode_text(model.tokenizer(['red ring', 'blue ring']), normalize=True).mean(0)
    image = model.clip.encode_image(images[1:])[0]
    expected = torch.nn.functional.cosine_similarity(image, text, dim=0)
    assert second.shape_scores[1].item() == pytest.approx(expected.item(), abs=1e-6)
    assert first.shape_scores.shape == (2,)


def test_what_it_is(config):
    model = MODELS.build(dict(type='CLIPTeacher', model_name=config))  # its name in 0.1
    assert type(model) is CLIP is MODELS.get('OpenCLIP') and MODELS.get('CLIP') is not CLIP
    assert (task_of(model), model.batch_coupled) == ('contrastive', True)
    (images,) = model.example_inputs(batch=2)
    assert model(images).shape == (2, 12)
    assert model.teacher_state().keys() == model.clip.state_dict().keys()
    assert {name.split('.')[0] for name in model.state_dict()} == {'clip'}  # the text encoder is a view


def test_what_it_refuses(config, tmp_path):
    with pytest.raises(FileNotFoundError, match='no open_clip model config'):
        CLIP(str(tmp_path / 'none.json'))
    settings = json.loads(Path(config).read_text())
    settings['text_cfg']['vocab_size'] = 9
    Path(config).write_text(json.dumps(settings))
    with pytest.raises(ValueError, match='vocab_size is 9, but the 5 words.*are 8'):
        CLIP(config)
