import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import mvp_mm
from mvp_mm.models.speaking.speech import Speech
from mvp_mm.weights.read import read_checkpoint

PARTS = dict(
    backbone=dict(type='MVPViT', img_size=(32, 48), init_cfg=dict(type='Pretrained')),
    neck=dict(type='MVPNeck', in_channels=8, out_channels=4),
    target_generator=dict(type='CLIPTargetGenerator', pretrained='openai'),
)


def of_file(path: Path) -> Speech | None:
    return Speech.of_file(path, read_checkpoint(path))


def test_of_a_config():
    speech = Speech.of_config(dict(PARTS, data_preprocessor=dict(mean=[1, 2, 3])))
    assert speech.backbone == dict(type='MVPViT', img_size=[32, 48])  # a list as JSON has it
    assert speech.teacher == PARTS['target_generator'] and speech.neck == PARTS['neck']
    assert speech.mean == [1, 2, 3] and speech.std == (58.395, 57.12, 57.375)
    assert Speech.of_config(dict(backbone=PARTS['backbone'], head=dict(type='LinearClsHead'))) is None


def test_in_files(tmp_path):
    speech = Speech.of_config(PARTS)
    torch.save(dict(meta=dict(speech=speech.plain())), tmp_path / 'a.pth')
    save_file({'a': torch.zeros(1)}, tmp_path / 'a.safetensors', metadata=dict(speech=speech.as_json()))
    assert of_file(tmp_path / 'a.pth').plain() == speech.plain()
    assert of_file(tmp_path / 'a.safetensors').plain() == json.loads(speech.as_json())


def test_of_a_checkpoint_that_has_its_config_only(tmp_path, formatted_configs):
    cfg = mvp_mm.zoo.model_config('mvp_vittiny_scenes')
    torch.save(dict(meta=dict(cfg=cfg.pretty_text)), tmp_path / 'old.pth')
    found = of_file(tmp_path / 'old.pth')
    assert found.neck == dict(type='MVPNeck', in_channels=96, out_channels=96)
    assert found.teacher['pretrained'] == cfg.model.target_generator.pretrained
    for content in (dict(a=torch.zeros(1)), dict(meta=dict(cfg='x = 1')), dict(meta=3)):
        torch.save(content, tmp_path / 'none.pth')
        assert of_file(tmp_path / 'none.pth') is None


def test_damaged_or_dangerous(tmp_path):
    torch.save(dict(meta=dict(speech=dict(head=1))), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='a.pth does not tell its student and its teacher: .*head'):
        of_file(tmp_path / 'a.pth')
    save_file({'a': torch.zeros(1)}, tmp_path / 'b.safetensors', metadata=dict(speech='{'))
    with pytest.raises(ValueError, match='b.safetensors does not tell'):
        of_file(tmp_path / 'b.safetensors')
    hidden = dict(PARTS, backbone=dict(type='MVPViT', layer_cfgs=[dict(norm_cfg=dict(type='os.system'))]))
    torch.save(dict(meta=dict(speech=Speech.of_config(hidden).plain())), tmp_path / 'c.pth')
    with pytest.raises(ValueError, match="c.pth wants 'os.system' built, which is no name of a registry"):
        of_file(tmp_path / 'c.pth')
