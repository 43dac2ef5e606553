"""Guidances with a student of convolutions, and with one that is there already."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from experiments.miniature import probe, work
from experiments.miniature.plan import BUDGETS, PRETRAININGS, SHIPPED, Recipe, plan
from mvp_mm.weights.read import read_tensors

OPTIONS = {
    'default_hooks.logger.interval': 1,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    **{
        f'{phase}_dataloader.{key}': value
        for phase in ('val', 'test')
        for key, value in {'dataset.count': 8, 'num_workers': 0, 'persistent_workers': False}.items()
    },
}


@pytest.mark.slow
@pytest.mark.parametrize('guidance', ['conv-scratch', 'conv-distil', 'shipped', 'shipped-on'])
def test_all_jobs(guidance, tmp_path, monkeypatch):
    for split in probe.COUNTS:
        monkeypatch.setitem(probe.COUNTS, split, 40)
    length = replace(BUDGETS['10min'], scenes=128, epochs=2, steps=2, recipes=(Recipe(1e-3, 1.0),))
    jobs = plan([guidance], (0,), (20,), length)
    kinds = ['pretrain', 'probe', 'segment'] if PRETRAININGS[guidance].config else ['probe', 'segment']
    assert [job.kind for job in jobs] == kinds
    for job in jobs:
        figures = work.do(job, length, tmp_path, OPTIONS)
        (tmp_path / f'{job.name}.json').write_text(json.dumps(figures))
    assert 0 <= figures['miou'] <= 100
    student = work._student(jobs[-1], tmp_path).state_dict()
    if guidance == 'shipped':
        weights = load_file(SHIPPED)
        assert torch.equal(student['cls_token'], weights['backbone.cls_token'])
    elif guidance == 'shipped-on':  # with its head
        checkpoint = json.loads((tmp_path / f'{jobs[0].name}.json').read_text())['checkpoint']
        trained = read_tensors(tmp_path / checkpoint)['neck.fc.weight']
        assert (trained - load_file(SHIPPED)['neck.fc.weight']).abs().max() < 0.01
    elif guidance.startswith('conv'):
        assert student['network.stages.3.blocks.1.gamma'].shape == (128,)
