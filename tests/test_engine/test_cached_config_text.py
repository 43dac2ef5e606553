"""A config's text is formatted once, and again after a change."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from yapf.yapflib import yapf_api

from mvp_mm.engine import build_runner, load_config
from mvp_mm.engine.cached_config_text import CachedConfigText

CONFIG = Path(__file__).parents[2] / 'configs/mvp/vittiny_debug.py'


@pytest.fixture
def formatted(formatted_configs, monkeypatch):
    """The texts that yapf was asked to format."""
    texts, format_code = [], yapf_api.FormatCode

    def counted(text, **options):
        texts.append(text)
        return format_code(text, **options)

    monkeypatch.setattr(yapf_api, 'FormatCode', counted)
    return texts


def test_text_is_made_once_and_follows_changes(formatted, tmp_path):
    path = tmp_path / 'some.py'
    path.write_text("a = [1, dict(b='c')]\nd = None\n")
    plain = Config.fromfile(path)
    cfg = CachedConfigText.of(plain)
    expected = plain.pretty_text
    formatted.clear()
    assert cfg.pretty_text == copy.deepcopy(cfg).pretty_text == cfg.dump() == expected
    assert len(formatted) == 1
    cfg.a[1].b = 'changed'
    cfg.merge_from_dict({'e.f': 2})
    assert "b='changed'" in cfg.pretty_text and 'e = dict(f=2)' in cfg.pretty_text
    assert len(formatted) == 2
    again = pickle.loads(pickle.dumps(cfg))
    assert type(again) is CachedConfigText and again.pretty_text == cfg.pretty_text
    assert cfg.filename == again.filename == str(path)


def test_a_run_formats_its_config_once(image_folder, tmp_path, formatted):
    cfg = load_config(str(CONFIG), str(tmp_path / 'run'))
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset.data_root = str(image_folder)
    cfg.model.backbone.arch.num_layers = 1
    cfg.train_cfg.max_epochs = 2
    cfg.default_hooks.checkpoint.interval = 1
    runner = build_runner(cfg)
    runner.train()
    assert len(formatted) == 1
    saved = [torch.load(path, weights_only=True)['meta']['cfg'] for path in (tmp_path / 'run').glob('*.pth')]
    assert len(saved) == 2 and set(saved) == {runner.cfg.pretty_text} == {cfg.pretty_text}
