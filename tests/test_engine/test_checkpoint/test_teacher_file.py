import hashlib

import pytest
import torch
from exact_runs import Model, Watch, build, finish
from safetensors import safe_open

from mvp_mm.engine import save_teacher


def test_weights_in_half_precision_with_what_they_are(tmp_path, monkeypatch):
    watch = Watch()
    runner = build(tmp_path / 'run', watch, validate=True)
    _, state = finish(runner, watch)
    with pytest.raises(ValueError, match='Model is no teacher to save: use a config of configs/teachers'):
        save_teacher(runner, tmp_path / 'teacher.safetensors')
    monkeypatch.setattr(Model, 'teacher_state', Model.state_dict, raising=False)
    monkeypatch.setattr(Model, 'teacher_facts', lambda self: dict(patch=8), raising=False)
    path = tmp_path / 'new' / 'teacher.safetensors'
    digest = save_teacher(runner, path)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    with safe_open(path, 'pt') as file:
        assert set(file.keys()) == state.keys()
        weight = file.get_tensor('layers.0.weight')
        about = file.metadata()
    assert torch.equal(weight, state['layers.0.weight'].half())
    expected = dict(seed='3', epochs='2', iterations='12', patch='8', zero='0')
    assert expected.items() <= about.items() and about['torch'] == torch.__version__
