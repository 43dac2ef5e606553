"""From a work dir to an entry that others load."""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from modelindex.load_model_index import load
from safetensors.torch import load_file

import mvp_mm
from mvp_mm.engine.config import read_config
from mvp_mm.zoo import find_entry
from mvp_mm.zoo.entries import shipped_entries
from mvp_mm.zoo.publish import publish, task_of

ROOT = Path(__file__).parents[2]


def write_run(work_dir, model, config, iteration=20, log=()):
    """What a run leaves: config, log, checkpoint with an optimiser's state."""
    (work_dir / 'now/vis_data').mkdir(parents=True)
    Config.fromfile(ROOT / 'configs' / config).dump(work_dir / 'config.py')
    lines = [json.dumps(row) for row in log]
    if lines:
        (work_dir / 'now/vis_data/scalars.json').write_text('\n'.join(lines) + '\n')
    state = dict(
        state_dict=model.state_dict(),
        optimizer=dict(state={0: torch.zeros(1000)}),
        meta=dict(epoch=2, iter=iteration),
    )
    torch.save(state, work_dir / 'epoch_2.pth')
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'epoch_2.pth'))


LOG = (
    dict(loss=2.0, lr=0.1, time=1.0, iter=10, step=10),
    dict(loss=1.5, lr=0.1, time=1.0, iter=20, step=20),
    {'accuracy/top1': 71.5, 'data_time': 0.1, 'time': 0.2, 'step': 2},
    dict(loss=1.0, lr=0.1, time=1.0, iter=30, step=30),
    {'accuracy/top1': 99.0, 'data_time': 0.1, 'time': 0.2, 'step': 3},
)


@pytest.fixture(scope='module')
def classifier():
    torch.manual_seed(1)
    return mvp_mm.get_model('finetune_vittiny_debug', head=dict(num_classes=1000))


@pytest.fixture
def run(classifier, tmp_path):
    write_run(tmp_path / 'my_run', classifier, 'finetune/vittiny_debug.py', log=LOG)
    return tmp_path / 'my_run'


SHIPPED = shipped_entries().values()


@pytest.mark.parametrize('entry', SHIPPED, ids=lambda entry: entry.name)
def test_task_is_the_shipped_entrys(entry):
    if entry.task == 'Instance Segmentation' and find_spec('mmdet') is None:
        pytest.skip('mmdet is not installed, and its configs cannot be read')
    assert task_of(read_config(str(entry.config))) == entry.task


@pytest.mark.slow
def test_published_and_loaded_by_name(run, classifier, tmp_path):
    zoo = tmp_path / 'zoo'
    published = publish(run, zoo, note='of the lab')
    digest = hashlib.sha256(published.weights.read_bytes()).hexdigest()
    assert published.weights.name == f'my_run-{digest[:8]}.safetensors'
    assert published.weights.stat().st_size < (run / 'epoch_2.pth').stat().st_size
    assert sorted(path.name for path in zoo.iterdir() if not path.name.startswith('.')) == sorted(
        path.name for path in (published.weights, published.config, published.metrics, published.index)
    )
    assert not any(name.endswith('relative_position_index') for name in load_file(published.weights))
    assert mvp_mm.add_zoo(zoo) == ['my_run']
    model = mvp_mm.get_model('my_run', pretrained=True)
    for name, value in classifier.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    metrics = json.loads(published.metrics.read_text())
    assert metrics['validation'] == {'accuracy/top1': 71.5}  # before the checkpoint, not the last
    assert metrics['logged']['loss'] == 1.5 and 'time' not in metrics['logged'] and metrics['iter'] == 20
    entry = find_entry('my_run')
    assert entry.task == 'Image Classification' and entry.note == 'of the lab' and entry.sha256 == digest
    assert entry.parameters == sum(p.numel() for p in classifier.parameters())
    assert list(entry.results.values()) == [71.5]
    assert Config.fromfile(published.config).train_dataloader.batch_size == 8  # the full config
    (row,) = load(str(published.index)).models  # OpenMMLab's own reading
    assert row.name == 'my_run' and row.metadata.data['Epochs'] == 2
    assert yaml.safe_load(published.row_as_yaml())[0]['SHA256'] == digest


def test_again_and_another(run, tmp_path):
    zoo = tmp_path / 'zoo'
    publish(run, zoo)
    (tmp_path / 'figures.json').write_text('{"accuracy/top1": 12.5}')
    publish(run / 'epoch_2.pth', zoo, metrics=tmp_path / 'figures.json')
    publish(run, zoo, name='second')
    rows = yaml.safe_load((zoo / 'metafile.yml').read_text())['Models']
    assert [row['Name'] for row in rows] == ['my_run', 'second']
    assert rows[0]['Results'][0]['Metrics'] == {'accuracy/top1': 12.5}


def test_a_student_speaks(tmp_path):
    """From a checkpoint of before its record, too; where its teacher lay there is nothing on this machine."""
    model = mvp_mm.get_model('mvp_vittiny_scenes', pretrained=True)
    images, names = torch.randn(2, 3, 64, 64), ['a red circle', 'a blue square']
    expected = model.zero_shot(images, names)
    run = tmp_path / 'student'
    write_run(run, model, 'mvp/vittiny_scenes.py')
    content = torch.load(run / 'epoch_2.pth')
    for name, teacher in (('by_config', None), ('by_record', '/gone/clip.safetensors')):
        if teacher:
            speech = model.speech()
            speech['teacher']['pretrained'] = teacher
            content['meta']['speech'] = speech
            torch.save(content, run / 'epoch_2.pth')
        published = publish(run, tmp_path / 'zoo', name=name)
        mvp_mm.add_zoo(tmp_path / 'zoo')
        student = mvp_mm.get_model(name, pretrained=True)
        assert student.state_dict().keys() == model.state_dict().keys() and not hasattr(
            student, 'target_generator'
        )
        for key, value in model.state_dict().items():
            assert torch.equal(student.state_dict()[key], value), key
        assert torch.equal(student.zero_shot(images, names), expected)
        if teacher:
            assert published.row['Metadata']['Teacher'] == speech['teacher']
            by_file = mvp_mm.get_model(str(published.weights))
            assert torch.equal(by_file.zero_shot(images, names), expected)
    assert mvp_mm.list_models('by_*', task='Pre-training') == ['by_config', 'by_record']


def test_what_would_not_load_is_not_published(run, classifier, tmp_path):
    zoo = tmp_path / 'zoo'
    broken = classifier.state_dict()
    del broken['head.fc.weight']
    torch.save(dict(state_dict=broken), run / 'epoch_2.pth')
    with pytest.raises(ValueError, match='(?s)my_run would not load.*head.fc.weight'):
        publish(run, zoo)
    assert [path.name for path in zoo.iterdir()] == []
    with pytest.raises(ValueError, match="'../up' is no name"):
        publish(run, zoo, name='../up')
    (run / 'other.py').write_text('')
    with pytest.raises(FileNotFoundError, match='found config.py, other.py: name it with --config'):
        publish(run, zoo)
    with pytest.raises(ValueError, match='other.py is no config of a model'):
        publish(run, zoo, config=run / 'other.py')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='no checkpoint in'):
        publish(tmp_path / 'empty', zoo)


def test_interrupted(run, tmp_path, monkeypatch):
    """The index, which comes last, cannot be written: what there was stays whole."""
    zoo = tmp_path / 'zoo'
    publish(run, zoo)
    before = (zoo / 'metafile.yml').read_bytes()
    monkeypatch.setattr('mvp_mm.zoo.publish._index_with', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        publish(run, zoo, name='second')
    assert (zoo / 'metafile.yml').read_bytes() == before
    assert not [path for path in zoo.iterdir() if path.name.startswith('.publish')]


def test_command_line(run, tmp_path, call_tool):
    printed, ended = call_tool('publish.py', run, '--zoo', tmp_path / 'zoo')
    assert ended is None and '- Name: my_run' in printed and 'my_run-' in printed
    _, ended = call_tool('publish.py', run, '--zoo', tmp_path / 'zoo', '--name', 'a/b')
    assert ended.strip().startswith("ERROR: 'a/b' is no name")


def test_a_place_that_is_none(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no .*/nowhere: give a work dir, or a checkpoint'):
        publish(tmp_path / 'nowhere', tmp_path / 'zoo')
