"""Models that the tests of teachers share."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from mvp_mm.models.target_generators import teacher_weights


@pytest.fixture
def clip_folder(tiny_clip, tmp_path):
    """``make(name, weights, preprocess, quick_gelu)``: a folder as of the hub, and open_clip's own model."""

    def make(name='clip', weights='open_clip_model.safetensors', preprocess=None, quick_gelu=False):
        folder = tmp_path / name
        folder.mkdir()
        config = json.loads(Path(tiny_clip(name, quick_gelu)).read_text())
        content = dict(model_cfg=config, **({} if preprocess is None else dict(preprocess_cfg=preprocess)))
        (folder / 'open_clip_config.json').write_text(json.dumps(content))
        torch.manual_seed(1)
        model = open_clip.CLIP(**config).eval()
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        if weights.endswith('.safetensors'):
            save_file(state, folder / weights)
        else:
            torch.save(state, folder / weights)
        return folder, model

    return make


@pytest.fixture
def warnings(monkeypatch):
    """What is said of random weights and of statistics that are not known."""
    said = []
    monkeypatch.setattr(teacher_weights, 'print_log', lambda text, **kwargs: said.append(text))
    return said
