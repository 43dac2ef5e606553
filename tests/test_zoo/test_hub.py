import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import mvp_mm
from mvp_mm.export import export
from mvp_mm.weights.locate import local_path
from mvp_mm.zoo import download_weights
from mvp_mm.zoo.hub import model_config, published_speech

TINY = 'upernet_vittiny_camvid'
ROOT = Path(__file__).parents[2]


def test_every_config_has_a_name():
    names = mvp_mm.list_models()
    # zero_shot: evaluations of models that have a name
    folders = [path for path in (ROOT / 'configs').iterdir() if path.name not in ('_base_', 'zero_shot')]
    files = [path for folder in folders for path in folder.glob('*.py')]
    assert len(names) == len(files) == len(set(names))
    assert {'mvp_vitb16_in1k', 'upernet_vitb16_ade20k_160k_512x512', 'finetune_vitb16_in1k'} <= set(names)
    assert all(name.startswith('mvp_') for name in mvp_mm.list_models('mvp_*'))


def test_names_by_task_and_weights():
    assert mvp_mm.list_models('*_in1k', task='image classification') == [
        'finetune_vitb16_in1k',
        'finetune_vitl16_in1k',
        'linear_probe_vitb16_in1k',
    ]
    tasks = (
        *('Pre-training', 'Image Classification', 'Semantic Segmentation', 'Instance Segmentation'),
        *('Teacher', 'Prompt Learning'),
    )
    by_task = [mvp_mm.list_models(task=task) for task in tasks]
    assert sorted(sum(by_task, [])) == mvp_mm.list_models()
    assert 'teachers_clip_vittiny_scenes' in mvp_mm.list_models(pretrained=True)
    assert 'mvp_vitb16_in1k' not in mvp_mm.list_models(pretrained=True)
    with pytest.raises(ValueError, match="no task 'Segmentation'; there is: Image Classification"):
        mvp_mm.list_models(task='Segmentation')


def test_the_shipped_teacher_by_name():
    teacher = mvp_mm.get_model('teachers_clip_vittiny_scenes', pretrained=True)
    weights = load_file(ROOT / 'configs/teachers/clip_vittiny_scenes.safetensors')
    assert not teacher.training
    for name, value in teacher.clip.state_dict().items():
        assert torch.equal(value, weights[name].to(value.dtype)), name
    fresh = mvp_mm.get_model('teachers_clip_vittiny_scenes')
    assert not torch.equal(fresh.clip.visual.proj, teacher.clip.visual.proj)


def test_a_name_stands_for_published_weights(tmp_path, monkeypatch):
    shipped = download_weights('mvp_vittiny_photographs')
    assert local_path('mvp_vittiny_photographs') == shipped
    model = mvp_mm.get_model('finetune_vittiny_debug', pretrained='mvp_vittiny_photographs')
    first = model.backbone.layers[0].attn.qkv.weight
    assert torch.equal(first, load_file(shipped)['backbone.layers.0.attn.qkv.weight'].float())
    monkeypatch.chdir(tmp_path)
    Path('mvp_vittiny_photographs').touch()
    assert local_path('mvp_vittiny_photographs') == Path('mvp_vittiny_photographs')  # a file counts first
    with pytest.raises(ValueError, match='no published weights of mvp_vitb16_in1k'):
        local_path('mvp_vitb16_in1k')


def test_a_misspelt_name_of_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r': did you mean mvp_vittiny_photographs\b'):
        local_path('mvp_vittiny_photograph')
    with pytest.raises(FileNotFoundError, match='^there is no checkpoint epoch_3$'):
        local_path('epoch_3')


@pytest.mark.slow
def test_an_export_by_name_speaks(tmp_path):
    """What the package ships has no record of its own: its config tells."""
    name, words, images = 'mvp_vittiny_photographs', ['a bus', 'a goldfish'], torch.randn(2, 3, 64, 64)
    export('safetensors', name, tmp_path / 'out.safetensors', prompts='a bus,a goldfish')
    assert np.load(tmp_path / 'out.classes.npz')['names'].tolist() == words
    expected = mvp_mm.get_model(name, pretrained=True).zero_shot(images, words)
    by_file = mvp_mm.get_model(str(local_path(name)))
    assert torch.allclose(by_file.zero_shot(images, words), expected, atol=1e-5)
    exported = mvp_mm.get_model(str(tmp_path / 'out.safetensors'))
    assert torch.allclose(exported.zero_shot(images, words), expected, atol=1e-5)
    assert published_speech(tmp_path / 'out.safetensors') is None


def test_learnt_prompts_by_name():
    classifier = mvp_mm.get_model('prompts_coop_scenes', pretrained=True)
    expected = load_file(ROOT / 'configs/prompts/coop_scenes.safetensors')['context']
    assert torch.equal(classifier.prompts.context, expected) and not classifier.training
    fresh = mvp_mm.get_model('prompts_coop_scenes').prompts.context
    word = classifier.text_tower.encoder.token_embedding.weight[classifier.text_tower.tokenizer.ids['a']]
    assert torch.equal(fresh, word[None]) and not torch.equal(fresh, expected)


def test_the_page(capsys):
    text = (ROOT / 'docs/model_zoo.md').read_text(encoding='utf-8')
    block, *_ = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    names = {}
    exec(block, names)
    assert names['segmentor'].dataset_meta['classes'] and 'mvp_vitb16_in1k' in capsys.readouterr().out


def test_every_weight_file_of_the_package_loads():
    for name in mvp_mm.list_models(pretrained=True):
        assert not mvp_mm.get_model(name, pretrained=True).training, name


def test_the_same_names_in_mmpretrain():
    import mmpretrain

    names = mvp_mm.list_models()
    assert set(names) <= set(mmpretrain.list_models())
    assert 'upernet_vittiny_camvid' in mmpretrain.list_models('upernet', task='Semantic Segmentation')
    ours = mvp_mm.get_model('finetune_vittiny_debug')
    theirs = mmpretrain.get_model('finetune_vittiny_debug', head=dict(num_classes=3))
    assert type(theirs) is type(ours) and type(theirs.backbone) is type(ours.backbone)
    assert theirs.head.num_classes == 3
    assert mmpretrain.get_model('upernet_vittiny_camvid').decode_head.num_classes == 11
    mvp_mm.register_in_mmpretrain()  # a second time: nothing happens


def test_mmengines_hub():
    from mmengine.hub import get_config

    cfg = get_config('mvp_mm::upernet/vittiny_camvid.py')
    assert cfg.model.decode_head.num_classes == 11


def test_whole_checkpoint_and_backbone_checkpoint(tmp_path):
    torch.manual_seed(0)
    first = mvp_mm.get_model(TINY)
    assert not first.training and len(first.dataset_meta['classes']) == 11
    torch.save(dict(state_dict=first.state_dict()), tmp_path / 'whole.pth')
    second = mvp_mm.get_model(TINY, pretrained=str(tmp_path / 'whole.pth'))
    for name, value in second.state_dict().items():
        assert torch.equal(value, first.state_dict()[name]), name
    backbone = {f'backbone.{name}': value for name, value in first.backbone.state_dict().items()}
    torch.save(backbone, tmp_path / 'backbone.pth')
    third = mvp_mm.get_model(TINY, pretrained=str(tmp_path / 'backbone.pth'))
    assert torch.equal(third.backbone.layers[2].attn.qkv.weight, first.backbone.layers[2].attn.qkv.weight)
    assert not torch.equal(third.decode_head.conv_seg.weight, first.decode_head.conv_seg.weight)
    larger = mvp_mm.get_model(TINY, str(tmp_path / 'whole.pth'), backbone=dict(img_size=256))
    assert torch.equal(larger.decode_head.conv_seg.weight, first.decode_head.conv_seg.weight)


def test_every_checkpoint_of_pretraining_answers_by_names(tmp_path):
    model = mvp_mm.get_model('mvp_vittiny_scenes', pretrained=True)
    images, names = torch.randn(2, 3, 64, 64), ['a red circle', 'a blue square']
    torch.save(dict(state_dict=model.state_dict(), meta=dict(speech=model.speech())), tmp_path / 'a.pth')
    student = mvp_mm.get_model(str(tmp_path / 'a.pth'))
    assert not student.training and torch.equal(
        student.zero_shot(images, names), model.zero_shot(images, names)
    )
    picture = np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8)
    labels = student.segment_by_text(picture, names)
    assert labels.shape == (40, 70) and torch.equal(labels, model.segment_by_text(picture, names))
    (tmp_path / 'folder').mkdir()
    shutil.copy(ROOT / 'configs/mvp/vittiny_photographs.safetensors', tmp_path / 'folder/model.safetensors')
    assert mvp_mm.get_model(str(tmp_path / 'folder')).img_size == (64, 64)  # as transformers keeps one
    with pytest.raises(ValueError, match='a.pth is a checkpoint: leave pretrained=True out'):
        mvp_mm.get_model(str(tmp_path / 'a.pth'), pretrained=True)
    with pytest.raises(ValueError, match="another teacher's|vision tower only"):
        teacher = str(ROOT / 'configs/teachers/dino_vittiny_scenes.safetensors')
        mvp_mm.get_model(str(tmp_path / 'a.pth'), teacher=teacher).zero_shot(images, names)


def test_a_weight_file_is_read_once(tmp_path, monkeypatch):
    model = mvp_mm.get_model(TINY)
    weights = model.backbone.state_dict()
    torch.save(weights, tmp_path / 'backbone.pth')
    read = []
    original = torch.load
    monkeypatch.setattr(torch, 'load', lambda *args, **kwargs: (read.append(1), original(*args, **kwargs))[1])
    mvp_mm.get_model(TINY, pretrained=str(tmp_path / 'backbone.pth'))
    assert len(read) == 1


def test_a_whole_checkpoint_that_does_not_fit(tmp_path):
    state = mvp_mm.get_model(TINY).state_dict()
    torch.save({**state, 'extra.weight': torch.zeros(1)}, tmp_path / 'more.pth')
    with pytest.raises(ValueError, match='it has extra.weight, for which the model has no place'):
        mvp_mm.get_model(TINY, pretrained=str(tmp_path / 'more.pth'))
    torch.save({**state, 'decode_head.conv_seg.bias': torch.zeros(3)}, tmp_path / 'classes.pth')
    with pytest.raises(ValueError, match='(?s)does not fit.*decode_head.conv_seg.bias'):
        mvp_mm.get_model(TINY, pretrained=str(tmp_path / 'classes.pth'))
    buffer = next(name for name in state if name.endswith('running_mean'))
    del state[buffer]
    torch.save(state, tmp_path / 'less.pth')
    with pytest.raises(ValueError, match=f'it has no {buffer}'):
        mvp_mm.get_model(TINY, pretrained=str(tmp_path / 'less.pth'))


@pytest.mark.slow
def test_with_mmsegs_own_inference(tmp_path):
    """``get_model`` with ``inference_model``, and mmseg's inferencer with its ``cfg`` and a checkpoint."""
    from mmseg.apis import MMSegInferencer, inference_model

    model = mvp_mm.get_model(TINY)
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    labels = inference_model(model, image).pred_sem_seg.data[0]
    assert labels.shape == (60, 80)
    torch.save(
        dict(state_dict=model.state_dict(), meta=dict(dataset_meta=model.dataset_meta)), tmp_path / 'a.pth'
    )
    inferencer = MMSegInferencer(model.cfg, str(tmp_path / 'a.pth'), device='cpu')
    assert np.array_equal(inferencer(image, show=False)['predictions'], labels.numpy())


def test_a_config_of_ones_own_without_colours(tmp_path):
    mine = tmp_path / 'mine.py'
    mine.write_text(
        "_base_ = 'mvp_mm::upernet/vittiny_custom.py'\n"
        "dataset = dict(metainfo=dict(_delete_=True, classes=('a', 'b')))\n"
        'train_dataloader = val_dataloader = test_dataloader = dict(dataset=dataset)\n'
    )
    meta = mvp_mm.get_model(str(mine)).dataset_meta
    assert meta['classes'] == ('a', 'b') and len(meta['palette']) == 2


def test_a_config_that_mmengine_dumped(tmp_path):
    cfg = model_config('mvp_vittiny_debug')
    for name in ('dumped.json', 'dumped.yml'):
        cfg.dump(tmp_path / name)
        assert isinstance(mvp_mm.get_model(str(tmp_path / name)), type(mvp_mm.get_model('mvp_vittiny_debug')))


def test_errors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where a path of the clone is none
    with pytest.raises(ValueError, match='no model .*mvp_vitb16_in1k'):
        mvp_mm.get_model('mvp_vitb16_in1')
    for near in (
        'upernet/vittiny_camvid.py',
        'configs/upernet/vittiny_camvid.py',
        'mvp_mm::upernet/vittiny_camvid.py',
    ):
        with pytest.raises(ValueError, match=r'no model .*: did you mean upernet_vittiny_camvid\?$'):
            mvp_mm.get_model(near)
    with pytest.raises(ValueError, match=r'list_models\(\) gives the names'):
        mvp_mm.get_model('zzz')
    with pytest.raises(ValueError, match='no published weights of mvp_vitb16_in1k: Not trained by this proj'):
        mvp_mm.get_model('mvp_vitb16_in1k', pretrained=True)
    with pytest.raises(FileNotFoundError, match='gone.pth'):
        mvp_mm.get_model(TINY, pretrained='gone.pth')
    (tmp_path / 'broken.py').write_text('model = dict(')
    with pytest.raises(ValueError, match=r'broken.py cannot be read as a config: SyntaxError'):
        mvp_mm.get_model('broken.py')
    (tmp_path / 'other.json').write_text('{}')
    with pytest.raises(ValueError, match='other.json is no config of a model'):
        mvp_mm.get_model('other.json')
