import json
from pathlib import Path

import mmpretrain.registry
import open_clip
import pytest
import timm
import torch
from mmengine.config import Config

import mvp_mm
from mvp_mm.console.teacher_names import put_teachers, teacher_config


@pytest.fixture
def teachers(tiny_clip, tmp_path, monkeypatch):
    """Relative folders and files of teachers: ``clip/``, ``timm/``, ``my weights/a.pt``, ``ViT-B-16/``."""
    monkeypatch.chdir(tmp_path)
    config = json.loads(Path(tiny_clip('names')).read_text())
    for name in ('clip', 'ViT-B-16'):
        folder = tmp_path / name
        folder.mkdir()
        (folder / 'open_clip_config.json').write_text(json.dumps(dict(model_cfg=config)))
        torch.save(open_clip.CLIP(**config).state_dict(), folder / 'open_clip_pytorch_model.bin')
    (tmp_path / 'timm').mkdir()
    vit = dict(architecture='test_vit', pretrained_cfg=dict(input_size=[3, 160, 160]))
    (tmp_path / 'timm' / 'config.json').write_text(json.dumps(vit))
    torch.save(timm.create_model('test_vit', num_classes=0).state_dict(), tmp_path / 'timm' / 'model.pth')
    (tmp_path / 'my weights').mkdir()
    (tmp_path / 'my weights' / 'a.pt').write_bytes(b'')
    return tmp_path


@pytest.mark.slow
def test_a_teacher_of_a_custom_zoo(teachers, monkeypatch):
    weights = teachers / 'clip/open_clip_pytorch_model.bin'
    row = dict(Name='lab_clip', Metadata=dict(Task='Teacher'), Config='lab.json', Weights=str(weights))
    (teachers / 'metafile.yml').write_text(json.dumps(dict(Models=[row])))
    model = dict(type='OpenCLIP', model_name=str(teachers / 'clip/open_clip_config.json'))
    (teachers / 'lab.json').write_text(json.dumps(dict(model=model)))
    monkeypatch.setenv('MVP_MM_ZOO', str(teachers))
    generator, width = teacher_config('lab_clip')
    assert (generator['model_name'], generator['pretrained'], width) == (
        model['model_name'],
        str(weights),
        24,
    )


@pytest.mark.parametrize(
    'teacher,name,pretrained,width',
    [
        ('clip', 'clip', True, 24),
        ('./clip/', './clip/', True, 24),
        ('{here}/clip', '{here}/clip', True, 24),
        ('local-dir:clip', 'local-dir:clip', True, 24),
        ('clip/open_clip_pytorch_model.bin', 'clip', 'clip/open_clip_pytorch_model.bin', 24),
        ('{here}/ViT-B-16', '{here}/ViT-B-16', True, 24),
        ('ViT-B-16/laion2b_s34b_b88k', 'ViT-B-16', 'laion2b_s34b_b88k', 512),
        ('ViT-B/16/laion2b_s34b_b88k', 'ViT-B-16', 'laion2b_s34b_b88k', 512),
        ('ViT-B-16/my weights/a.pt', 'ViT-B-16', 'my weights/a.pt', 512),
        ('ViT-B-16/{here}/my weights/a.pt', 'ViT-B-16', '{here}/my weights/a.pt', 512),
        ('ViT-S-32/random', 'ViT-S-32', None, 384),
        ('clip/open_clip_config.json/random', 'clip/open_clip_config.json', None, 24),
        ('EVA02-B-16/random', 'EVA02-B-16', None, 512),
        ('timm:test_vit', 'test_vit', True, 64),
        ('timm:test_vit/random', 'test_vit', None, 64),
        ('timm:test_vit/my weights/a.pt', 'test_vit', 'my weights/a.pt', 64),
        ('timm:test_vit/{here}/my weights/a.pt', 'test_vit', '{here}/my weights/a.pt', 64),
        ('timm:timm', 'timm', True, 64),
        ('timm:local-dir:{here}/timm', 'local-dir:{here}/timm', True, 64),
        ('timm:xcit_tiny_12_p16_224', 'xcit_tiny_12_p16_224', True, 192),
        ('timm:resnet18', 'resnet18', True, 512),
    ],
)
def test_names(teachers, teacher, name, pretrained, width):
    teacher, name = teacher.format(here=teachers), name.format(here=teachers)
    pretrained = pretrained.format(here=teachers) if isinstance(pretrained, str) else pretrained
    generator, found = teacher_config(teacher)
    kind = 'TimmTargetGenerator' if teacher.startswith('timm:') else 'CLIPTargetGenerator'
    assert (generator['type'], generator['model_name'], generator['pretrained']) == (kind, name, pretrained)
    assert found == width


def test_clip_whose_patches_have_no_joint_space():
    generator, width = teacher_config('ViT-B-16-SigLIP/webli')
    assert generator['space'] == 'hidden' and width == 768


def test_transformers(tmp_path):
    pytest.importorskip('transformers')
    sizes = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=64, patch_size=16)
    (tmp_path / 'config.json').write_text(json.dumps(dict(model_type='dinov2', **sizes)))
    for name, pretrained in ((f'transformers:{tmp_path}', True), (f'transformers:{tmp_path}/random', None)):
        generator, width = teacher_config(name)
        expected = dict(type='TransformersTargetGenerator', model_name=str(tmp_path), pretrained=pretrained)
        assert generator == expected and width == 32


def test_hub(teachers, monkeypatch):
    """Of a repository only the config is downloaded."""

    def download(repository, filename=None, cache_dir=None):
        assert (repository, filename) == ('someone/clip', 'open_clip_config.json')
        return str(teachers / 'clip' / filename)

    monkeypatch.setattr(open_clip.factory, 'download_pretrained_from_hf', download)
    generator, width = teacher_config('hf-hub:someone/clip')
    assert (generator['model_name'], generator['pretrained'], width) == ('hf-hub:someone/clip', True, 24)

    def config_only(repository, cache_dir=None):
        assert repository == 'someone/vit'
        return timm.models._factory.load_model_config_from_path(teachers / 'timm')

    monkeypatch.setattr(timm.models._factory, 'load_model_config_from_hf', config_only)
    generator, width = teacher_config('timm:hf-hub:someone/vit')
    assert (generator['model_name'], generator['pretrained'], width) == ('hf-hub:someone/vit', True, 64)


@pytest.mark.parametrize(
    'teacher,error,says',
    [
        ('', ValueError, 'no teacher: expected MODEL/TAG'),
        ('openai', ValueError, 'no teacher: expected MODEL/TAG'),
        ('timm:', ValueError, 'no teacher: expected MODEL/TAG'),
        ('local-dir:', ValueError, 'names no model'),
        ('hf-hub:clip', ValueError, 'expected hf-hub:owner/name'),
        ('/gone/clip', FileNotFoundError, 'no such file or folder'),
        ('local-dir:gone', FileNotFoundError, 'there is no folder gone'),
        ('my weights', FileNotFoundError, 'holds no open_clip_config.json'),
        ('my weights/a.pt', ValueError, 'does not tell which model.*give MODEL/FILE'),
        ('timm', FileNotFoundError, 'give timm:local-dir:timm'),
        ('ViT-Z/openai', ValueError, 'open_clip knows no model'),
        ('ViT-B-16/opnai', FileNotFoundError, 'neither a tag of ViT-B-16'),
        ('transformers:nowhere', FileNotFoundError, 'neither a folder nor owner/name'),
        ('timm:test_vit/gone.pth', FileNotFoundError, 'no existing weight file'),
        ('timm:test_vit.nope', ValueError, 'timm lists no weights'),
    ],
)
def test_mistakes(teachers, teacher, error, says):
    with pytest.raises(error, match=says):
        teacher_config(teacher)


def test_pretrain_from_a_folder(teachers, image_folder, tmp_path):
    """The neck has the folder's width."""
    path = mvp_mm.pretrain(image_folder, tmp_path / 'out', 'vit-tiny', 'local-dir:clip', dry_run=True)
    cfg = Config.fromfile(path)
    assert cfg.model.neck.out_channels == 24 and cfg.model.target_generator.model_name == 'local-dir:clip'


@pytest.mark.slow
def test_several_are_named_by_their_models(tmp_path, image_folder, teachers):
    """With a head each, in the options of one target generator; two of a name differ by a number."""
    path = mvp_mm.pretrain(
        image_folder,
        tmp_path / 'out',
        'vit-tiny',
        ['teachers_clip_vittiny_scenes', 'timm:test_vit/random', 'timm:timm', 'teachers_clip_vittiny_scenes'],
        dry_run=True,
    )
    model = Config.fromfile(path).model
    widths = dict(clip_vittiny_scenes=96, test_vit=64, timm=64)
    assert (model.type, model.neck.type, model.neck.out_channels) == ('MultiTeacherMVP', 'MVPNecks', widths)
    assert model.target_generator.patch_size == 8 and list(model.target_generator.teachers) == list(widths)
    assert mmpretrain.registry.MODELS.build(model).target_generator.speaks == 'clip_vittiny_scenes'


def test_two_of_one_name(clip_free_model):
    put_teachers(clip_free_model, ['timm:test_vit/random', 'timm:test_vit'])
    assert list(clip_free_model.target_generator.teachers) == ['test_vit', 'test_vit_1']


@pytest.fixture
def clip_free_model():
    return Config.fromfile(Path(__file__).parents[2] / 'configs/mvp/vittiny_debug.py').model
