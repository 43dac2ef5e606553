import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional as F

from mvp_mm.models import CoCoOp, CoOp, TextEncoder
from mvp_mm.models.prompts import load_prompts, nearest_words, save_prompts
from mvp_mm.models.speaking.text_tower import TextTower

NAMES = ['red circle, big circle', 'star']
FLAT = ['red circle', 'big circle', 'star']


def test_a_file_of_kilobytes_gives_the_embeddings_again(tower, tmp_path):
    learner = CoOp(tower, 3, position='middle', closing=' .')
    path = tmp_path / 'prompts.safetensors'
    save_prompts(learner, path)
    assert path.stat().st_size < 2000
    with safe_open(path, 'pt') as file:
        assert list(file.keys()) == ['context'] and json.loads(file.metadata()['identity']) == 'abc'
    found = load_prompts(path).class_embeddings(tower, NAMES)
    assert torch.equal(found.vectors, learner(FLAT)) and found.owner.tolist() == [0, 0, 1]
    assert found.names == ('red circle, big circle', 'star') and not found.vectors.requires_grad
    assert tower.class_embeddings(found) is found  # so they stand wherever names do


def test_class_specific_and_conditional_ones(tower, tmp_path):
    path = tmp_path / 'prompts.safetensors'
    specific = CoOp(tower, 2, class_specific=True, class_names=FLAT, closing='')
    save_prompts(specific, path)
    assert torch.equal(load_prompts(path).class_embeddings(tower, NAMES).vectors, specific(FLAT))
    with pytest.raises(ValueError, match='know their own 3 names only'):
        load_prompts(path).class_embeddings(tower, ['star'])
    conditional = CoCoOp(tower, init='a photo', closing='')
    save_prompts(conditional, path)
    image = torch.randn(32)
    expected = conditional(FLAT, F.normalize(image, dim=-1)[None])[0]
    found = load_prompts(path).class_embeddings(tower, NAMES, image)
    torch.testing.assert_close(found.vectors, expected, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match='depend on the image'):
        load_prompts(path).class_embeddings(tower, NAMES)


def test_another_tower_is_refused(clip, tower, tmp_path):
    path = tmp_path / 'prompts.safetensors'
    save_prompts(CoOp(tower, 3, closing=''), path)
    other = TextTower(TextEncoder(clip), tower.tokenizer, 20.0, 'def', 'another')
    with pytest.raises(ValueError, match=r'another text tower than that of another \(sha256 abc and def\)'):
        load_prompts(path).class_embeddings(other, NAMES)


def test_nearest_words(clip, tower):
    words = [tower.tokenizer.ids[word] for word in ('photo', 'star')]
    context = clip.token_embedding.weight[words] + torch.tensor([[0.0], [0.01]])
    (first, *others), (second, *_) = nearest_words(context, tower, 3)
    assert first == ('photo', 0.0) and second == ('star', 0.04) and len(others) == 2  # 0.01 in 16 dimensions
    distances = (clip.token_embedding.weight - context[0]).norm(dim=1).sort().values
    assert others[0][1] == pytest.approx(distances[1].item(), abs=1e-4)


def test_other_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_prompts(tmp_path / 'none.safetensors')
    save_file(dict(context=torch.zeros(2, 3)), tmp_path / 'other.safetensors')
    with pytest.raises(ValueError, match='holds no learnt prompts'):
        load_prompts(tmp_path / 'other.safetensors')


def test_a_learner_is_where_its_tower_is(tower, tmp_path):
    save_prompts(CoCoOp(tower, init='a photo', closing=''), tmp_path / 'prompts.safetensors')
    tower.to('meta')  # which stands for a GPU
    learner = load_prompts(tmp_path / 'prompts.safetensors').learner(tower)
    assert {parameter.device.type for parameter in learner.parameters()} == {'meta'}
