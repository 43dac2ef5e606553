"""A lab's own zoo: a folder, or an address."""

import hashlib
import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save

import mvp_mm
from mvp_mm.datasets.prepare import ChecksumError
from mvp_mm.zoo import download_weights, find_entry, model_config

TINY = 'finetune_vittiny_debug'


@pytest.fixture(scope='module')
def published():
    """The files of a zoo with one classifier, by name, and its weights."""
    cfg = model_config(TINY)
    model = mvp_mm.get_model(TINY)
    weights = save(model.state_dict())
    row = dict(
        Name='lab_classifier',
        Metadata=dict(Task='Image Classification', Note='of the lab'),
        Config='lab.json',
        Weights='lab.safetensors',
        SHA256=hashlib.sha256(weights).hexdigest(),
    )
    files = {
        'metafile.yml': yaml.safe_dump(dict(Models=[row])).encode(),
        'lab.json': json.dumps(cfg.to_dict()).encode(),
        'lab.safetensors': weights,
    }
    return files, model


@pytest.fixture
def folder(published, tmp_path):
    folder = tmp_path / 'zoo'
    folder.mkdir()
    for name, content in published[0].items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def address(published, server):
    for name, content in published[0].items():
        server.files[f'/zoo/{name}'] = content
    return f'{server.address}/zoo'


def change(folder, **values):
    index = folder / 'metafile.yml'
    content = yaml.safe_load(index.read_text())
    content['Models'][0].update(values)
    index.write_text(yaml.safe_dump(content))


@pytest.mark.parametrize('kind', ['folder', 'address'])
def test_one_line_adds_a_zoo(kind, request, published):
    place = request.getfixturevalue(kind)
    assert 'lab_classifier' not in mvp_mm.list_models()
    assert mvp_mm.add_zoo(place) == ['lab_classifier']
    assert 'lab_classifier' in mvp_mm.list_models('lab*', task='Image Classification', pretrained=True)
    model = mvp_mm.get_model('lab_classifier', pretrained=True)
    for ours, theirs in zip(model.parameters(), published[1].parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_zoo_on_the_hub(folder, monkeypatch, published):
    def download(repository, file, revision=None, local_files_only=False):
        assert repository == 'lab/zoo' and revision is None
        return str(folder / file)

    monkeypatch.setattr('huggingface_hub.hf_hub_download', download)
    assert mvp_mm.add_zoo('hf://lab/zoo') == ['lab_classifier']
    assert find_entry('lab_classifier').weights == 'hf://lab/zoo/lab.safetensors'
    model = mvp_mm.get_model('lab_classifier', pretrained=True)
    assert torch.equal(model.head.fc.weight, published[1].head.fc.weight)


def test_the_environment_and_the_tool(folder, address, monkeypatch, tmp_path, call_tool):
    monkeypatch.setenv('MVP_MM_ZOO', f'{folder}, {tmp_path / "missing"}')
    assert find_entry('lab_classifier').zoo == str(folder)
    printed, ended = call_tool('download.py', 'lab_classifier', '--zoo', address)
    assert ended is None
    path = Path(printed.strip().splitlines()[-1])
    assert tmp_path / 'torch/hub/mvp_mm' in path.parents  # named on the command line: before the environment
    assert path.read_bytes() == (folder / 'lab.safetensors').read_bytes()


def test_a_wrong_hash_is_refused(folder, address, server):
    mvp_mm.add_zoo(address)
    server.files['/zoo/lab.safetensors'] = b'something else'
    with pytest.raises(ChecksumError, match='deleted'):
        download_weights('lab_classifier')
    (folder / 'lab.safetensors').write_bytes(b'something else')
    mvp_mm.zoo.custom_zoos._added.clear()
    mvp_mm.add_zoo(folder)
    with pytest.raises(ValueError, match='lab.safetensors is damaged: its sha256 is'):
        download_weights('lab_classifier')


def test_without_its_server(address, server, monkeypatch):
    """The last known index, and the weights in the cache, are enough."""
    mvp_mm.add_zoo(address)
    kept = download_weights('lab_classifier')
    mvp_mm.get_model('lab_classifier')
    server.vanish()
    assert mvp_mm.add_zoo(address) == ['lab_classifier']  # asked again, and in vain
    assert download_weights('lab_classifier') == kept
    monkeypatch.setenv('MVP_MM_OFFLINE', '1')
    assert not mvp_mm.get_model('lab_classifier', pretrained=True).training
    with pytest.raises(FileNotFoundError, match='network is switched off'):
        mvp_mm.add_zoo(f'{address}/another')


def test_a_server_that_answers_with_a_page(address, server, monkeypatch):
    """A proxy's, say: the last known index stays, and no other zoo suffers."""
    mvp_mm.add_zoo(address)
    server.files['/zoo/metafile.yml'] = server.files['/other/metafile.yml'] = b'<html>log in: first</html>'
    assert mvp_mm.add_zoo(address) == ['lab_classifier']
    with pytest.raises(ValueError, match='metafile.yml'):
        mvp_mm.add_zoo(f'{server.address}/other')
    monkeypatch.setenv('MVP_MM_ZOO', f'{server.address}/other')
    assert 'lab_classifier' in mvp_mm.list_models()


def test_nothing_of_a_zoo_runs(folder, tmp_path):
    mvp_mm.add_zoo(folder)
    marked = tmp_path / 'ran'
    (folder / 'evil.py').write_text(f'open({str(marked)!r}, "w")\nmodel = dict(type="MVPViT")\n')
    change(folder, Config='evil.py')
    with pytest.raises(ValueError, match='a custom zoo may have .json only'):
        mvp_mm.get_model('lab_classifier')
    evil = dict(
        model=dict(type='ImageClassifier', backbone=dict(type='os.system', command=f'touch {marked}')),
        custom_imports=dict(imports=['antigravity']),
    )
    (folder / 'evil.json').write_text(json.dumps(evil))
    change(folder, Config='evil.json')
    with pytest.raises(ValueError, match="wants 'os.system' built"):
        mvp_mm.get_model('lab_classifier')
    assert not marked.exists() and 'antigravity' not in sys.modules


def test_a_lab_may_fill_a_name_of_the_package(folder, published):
    change(folder, Name=TINY)
    mvp_mm.add_zoo(folder)
    assert find_entry(TINY).zoo == str(folder)
    model = mvp_mm.get_model(TINY, pretrained=True)
    assert torch.equal(model.head.fc.weight, published[1].head.fc.weight)


def test_no_teacher_is_built_for_a_further_zoos_student(folder):
    cfg = model_config('mvp_vittiny_debug').to_dict()
    cfg['model']['target_generator']['model_name'] = '/of/another/machine.json'
    (folder / 'student.json').write_text(json.dumps(cfg))
    change(folder, Config='student.json', Weights=None, SHA256=None)
    mvp_mm.add_zoo(folder)
    student = mvp_mm.get_model('lab_classifier')
    assert type(student).__name__ == 'SpeakingStudent' and student.embed_dims == 96
    with pytest.raises(ValueError, match='cannot speak: there is no open_clip model config /of/another'):
        student.zero_shot(torch.zeros(1, 3, 64, 64), ['a'])


def test_mistakes(folder, tmp_path, server, call_tool):
    with pytest.raises(FileNotFoundError, match='expected a folder with metafile.yml'):
        mvp_mm.add_zoo(tmp_path / 'missing')
    with pytest.raises(FileNotFoundError, match='its index could not be had'):
        mvp_mm.add_zoo(f'{server.address}/missing')
    (folder / 'metafile.yml').write_text('- 1')
    with pytest.raises(ValueError, match='no list `Models`'):
        mvp_mm.add_zoo(folder)
    _, ended = call_tool('download.py', 'mvp_vitb16_in1')
    assert "ERROR: there is no model 'mvp_vitb16_in1': did you mean mvp_vitb16_in1k" in ended
