"""The experiment on prompts, small: learning side by side is learning alone."""

import json

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from experiments.prompts import run
from mvp_mm.datasets.samplers.epoch_sampler import epoch_order

OPTIONS = {
    'train_cfg.max_epochs': 3,
    'train_dataloader.dataset.dataset.count': 150,
    'train_dataloader.dataset.shots': 1,
    'test_dataloader.dataset.count': 60,
}


@pytest.mark.parametrize('method', ['coop', 'cocoop'])
def test_learning_side_by_side_is_learning_alone(method, tmp_path):
    init_default_scope('mmpretrain')
    cfg = run.config_of(method, 'teacher', 1, OPTIONS)
    cfg.train_dataloader.batch_size = batch = 1 if method == 'cocoop' else 8
    models, data = [], []
    for seed in (1, 2):
        torch.manual_seed(seed)
        models.append(MODELS.build(cfg.model))
        features, labels = torch.randn(20, 96), torch.randint(0, 32, (20,))
        data.append((features / features.norm(dim=1, keepdim=True), labels))
    torch.manual_seed(2)
    alone = MODELS.build(cfg.model)
    wrapper = OptimWrapper(torch.optim.SGD(alone.parameters(), 0.002, momentum=0.9, weight_decay=5e-4))
    run.learn_together(models, data, cfg, (1, 2))
    rates = (
        1e-5,
        0.002,
        0.001 * (1 + torch.pi * 0 + torch.tensor(torch.pi / cfg.param_scheduler[1].T_max).cos()),
    )
    for epoch, rate in enumerate(rates):
        wrapper.optimizer.param_groups[0]['lr'] = float(rate)
        order = epoch_order(20, True, 2, epoch)
        for start in range(0, 20 // batch * batch, batch):
            rows = order[start : start + batch]
            samples = [DataSample().set_gt_label(label) for label in data[1][1][rows]]
            wrapper.update_params(alone.loss(data[1][0][rows], samples)['loss'])
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(models[1].state_dict()[name], value, rtol=1e-4, atol=1e-6)
        if name.endswith(('context', 'weight')):
            assert not torch.equal(models[0].state_dict()[name], value)


@pytest.mark.slow
def test_figures_and_table(tmp_path):
    table = run.run(tmp_path, (1, 2), ['coop'], OPTIONS)
    assert table == (tmp_path / 'table.md').read_text().strip()
    assert [line.split(' | ')[0] for line in table.splitlines()[2:]] == ['| teacher'] * 2 + ['| student'] * 2
    assert table.splitlines()[3].endswith('| 2 |') and ' ± ' in table
    found = json.loads((tmp_path / 'student-coop-s2.json').read_text())
    assert {'base', 'new', 'H', 'all', 'words', 'cpu_seconds'} == found.keys()
    (tmp_path / 'student-coop-s2.json').write_text(json.dumps(dict(found, base=0.0)))
    run.run(tmp_path, (1, 2), ['coop'], OPTIONS)
    assert json.loads((tmp_path / 'student-coop-s2.json').read_text())['base'] == 0.0  # done is done
