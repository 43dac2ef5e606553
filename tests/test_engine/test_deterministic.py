"""``randomness.deterministic=True`` gives the same tensors twice."""

import os
from pathlib import Path

import pytest
import torch
from faults.tiny_run import digest, last_checkpoint, tiny_config, write_photographs

from mvp_mm.engine import build_runner


@pytest.fixture
def as_before():
    """What the option switches is global."""
    flags = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = flags


def test_twice_the_same(tmp_path, as_before, monkeypatch):
    """With drop path, two accumulated batches, a validation, and a loader's worker; another seed differs."""
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', 'put back afterwards')
    monkeypatch.delenv('CUBLAS_WORKSPACE_CONFIG')
    write_photographs(tmp_path / 'images', 32)
    digests = []
    for name, seed in (('one', 0), ('two', 0), ('other', 1)):
        cfg = tiny_config(tmp_path / 'images', epochs=1)
        cfg.work_dir = str(tmp_path / name)
        cfg.randomness.update(deterministic=True, seed=seed)
        cfg.visualizer.vis_backends = []
        build_runner(cfg).train()
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ['CUBLAS_WORKSPACE_CONFIG'] == ':4096:8'  # else torch refuses cuBLAS
        digests.append(digest(last_checkpoint(Path(cfg.work_dir))))
    assert digests[0] == digests[1] != digests[2]
