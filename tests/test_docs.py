"""The Python in README and docs runs as it stands, with files of the names that it uses."""

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import mvp_mm

ROOT = Path(__file__).parents[1]


def python_of(name, word):
    """The one block of Python of a page that has a word in it."""
    blocks = re.findall(r'```python\n(.*?)```', (ROOT / name).read_text(encoding='utf-8'), re.DOTALL)
    (block,) = [block for block in blocks if word in block]
    return block


def save(path, model):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=model.state_dict()), path)


def test_models_from_python(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    segmentor = mvp_mm.get_model('upernet_vittiny_camvid')
    save(tmp_path / 'work_dirs/vittiny_camvid/iter_400.pth', segmentor)
    classifier = mvp_mm.get_model('finetune_vittiny_debug', head=dict(num_classes=3))
    save(tmp_path / 'work_dirs/classifier/epoch_10.pth', classifier)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save('street.jpg')
    names = {}
    exec(python_of('docs/downstream.md', 'get_model'), names)
    assert names['labels'].shape == (60, 80) and set(names['names']) <= set(segmentor.dataset_meta['classes'])
    assert names['answer']['pred_label'] in range(3)
    assert 'upernet_vitb16_ade20k_160k_512x512' in capsys.readouterr().out


def test_the_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = mvp_mm.get_model('upernet_vittiny_camvid').backbone
    torch.save({f'backbone.{name}': value for name, value in source.state_dict().items()}, 'epoch_300.pth')
    names = {}
    exec(python_of('README.md', 'get_model'), names)
    assert torch.equal(names['model'].backbone.layers[0].attn.qkv.weight, source.layers[0].attn.qkv.weight)
