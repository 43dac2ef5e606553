import json
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip import build_zero_shot_classifier
from open_clip.zero_shot_metadata import SIMPLE_IMAGENET_TEMPLATES
from safetensors.torch import load_file, save_file

from mvp_mm.models import CLIPTargetGenerator
from mvp_mm.models.speaking import text_tower
from mvp_mm.weights.locate import cache_dir

TEXT = dict(context_length=16, width=16, heads=2, layers=2)
VISION = dict(image_size=32, patch_size=8, width=32, layers=2, head_width=16)
WORDS = ['a', 'red', 'blue', 'ring', 'star']


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))


@pytest.fixture
def teacher(tmp_path):
    """Writer of a CLIP's files: ``teacher(**text_cfg)`` returns its network, config and weights."""

    def write(custom=False, **text):
        config = dict(embed_dim=24, vision_cfg=VISION, text_cfg={**TEXT, 'vocab_size': 49408, **text})
        torch.manual_seed(3)
        build = open_clip.CustomTextCLIP if custom else open_clip.CLIP
        clip = build(24, VISION, config['text_cfg']).eval()
        for parameter in clip.parameters():
            parameter.data.add_(torch.randn_like(parameter) * 0.05)
        path = tmp_path / 'clip.json'
        path.write_text(json.dumps(config | dict(custom_text=True) if custom else config))
        save_file({k: v.clone() for k, v in clip.state_dict().items()}, tmp_path / 'clip.safetensors')
        return clip, str(path), str(tmp_path / 'clip.safetensors')

    return write


def tower_of(files, **options):
    return CLIPTargetGenerator(*files, quick_gelu=False, patch_size=8, **options).text_tower


@pytest.mark.parametrize('custom', [False, True])
def test_classes_equal_open_clips_zero_shot_classifier(teacher, custom):
    clip, *files = teacher(custom)
    tower = tower_of(files)
    names = ['goldfish', 'tench', 'red fox']
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    expected = build_zero_shot_classifier(clip, tokenizer, names, SIMPLE_IMAGENET_TEMPLATES).T
    found = tower.class_embeddings(names, 'simple')
    assert torch.equal(found.owner, torch.arange(3)) and found.names == tuple(names)
    assert (found.vectors - expected).abs().max() < 1e-6
    assert tower.logit_scale == pytest.approx(min(float(clip.logit_scale.detach().exp()), 100.0))


def test_commas_separate_names_of_one_class_and_lists_are_taken_as_they_are(teacher):
    tower = tower_of(teacher()[1:])
    found = tower.class_embeddings(['person, people', ['a dog, sitting']], 'plain')
    assert found.owner.tolist() == [0, 0, 1] and found.names == ('person, people', 'a dog, sitting')
    assert torch.allclose(found.vectors, tower.embed(['person', 'people', 'a dog, sitting']))


def test_a_vocabulary_of_its_own_brings_its_templates(teacher):
    options = dict(words=WORDS, templates=['a red {}', 'a blue {}'])
    files = teacher(vocab_size=len(WORDS) + 3, tokenizer_kwargs=options)[1:]
    tower = tower_of(files)
    vectors = tower.embed(['a red star', 'a blue star'])
    expected = torch.nn.functional.normalize(vectors.mean(0), dim=0)
    assert torch.allclose(tower.class_embeddings(['star']).vectors[0], expected)
    with pytest.raises(ValueError, match="'moon' is not in the vocabulary"):
        tower.class_embeddings(['moon'])


def test_embeddings_are_cached_by_weights_names_and_templates(teacher, monkeypatch):
    files = teacher()[1:]
    tower = tower_of(files)
    first = tower.class_embeddings(['cat', 'dog'], 'plain')
    (path,) = (cache_dir() / 'text').iterdir()
    monkeypatch.setattr(text_tower.TextTower, 'embed', lambda *_: pytest.fail('encoded again'))
    again = tower_of(files).class_embeddings(['cat', 'dog'], 'plain')
    assert torch.equal(again.vectors, first.vectors)
    monkeypatch.undo()
    monkeypatch.setenv('TORCH_HOME', str(path.parents[3]))
    path.write_bytes(path.read_bytes()[:40])  # of a disk that was full
    assert torch.equal(tower.class_embeddings(['cat', 'dog'], 'plain').vectors, first.vectors)
    assert torch.equal(load_file(path)['vectors'], first.vectors)
    tower.class_embeddings(['dog', 'cat'], 'plain')
    tower.class_embeddings(['cat', 'dog'], 'simple')
    tower.identity = 'of other weights'
    tower.class_embeddings(['cat', 'dog'], 'plain')
    assert len(list(path.parent.iterdir())) == 4
    config = json.loads(Path(files[0]).read_text())  # the same weights, of another network
    Path(files[0]).write_text(json.dumps(config | dict(quick_gelu=True)))
    quick = CLIPTargetGenerator(*files, quick_gelu=True, patch_size=8).text_tower
    vectors = quick.class_embeddings(['cat', 'dog'], 'plain').vectors
    assert len(list(path.parent.iterdir())) == 5 and not torch.equal(vectors, first.vectors)


def test_random_weights_and_disks_that_refuse_cost_nothing_but_the_cache(teacher, tmp_path, monkeypatch):
    _, config, weights = teacher()
    random = tower_of((config, None))
    assert random.identity is None
    assert torch.equal(random.class_embeddings(['cat']).vectors, random.class_embeddings(['cat']).vectors)
    assert not (cache_dir() / 'text').exists()
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'file'))
    assert tower_of((config, weights)).class_embeddings(['cat']).vectors.shape == (1, 24)


def test_bad_names_end_in_one_line(teacher):
    tower = tower_of(teacher()[1:])
    for names, reason in (
        ([], 'there are no classes'),
        (['cat', ' '], 'class 1 has an empty name'),
        (['cat', 'dog,'], 'class 1 has an empty name'),
        (['cat', 'a dog', 'Cat'], "'Cat' names class 0 and class 2"),
        (['cat', 'dog ' * 20], 'has 22 tokens, and the context of clip 16'),
    ):
        with pytest.raises(ValueError, match=reason):
            tower.class_embeddings(names, 'plain')


def test_towers_that_cannot_speak_say_why(teacher, tmp_path):
    clip, config, weights = teacher()
    with pytest.raises(ValueError, match='cannot speak: its tokens are before the projection'):
        tower_of((config, weights), space='hidden')
    vision = {name: value for name, value in load_file(weights).items() if name.startswith('visual.')}
    save_file(vision, tmp_path / 'vision.safetensors')
    with pytest.raises(ValueError, match='clip cannot speak: .*safetensors holds its vision tower only'):
        tower_of((config, str(tmp_path / 'vision.safetensors')))
    content = json.loads((tmp_path / 'clip.json').read_text())
    (tmp_path / 'roberta.json').write_text(json.dumps(content | dict(text_cfg=dict(hf_model_name='roberta'))))
    with pytest.raises(ValueError, match="roberta cannot speak: its text tower is transformers' roberta"):
        tower_of((str(tmp_path / 'roberta.json'), weights))
    text = dict(content['text_cfg'], pool_type='none')
    (tmp_path / 'pooled.json').write_text(json.dumps(content | dict(text_cfg=text)))
    with pytest.raises(ValueError, match='pooled cannot speak: the text tower of CLIP cannot be used'):
        tower_of((str(tmp_path / 'pooled.json'), weights))
