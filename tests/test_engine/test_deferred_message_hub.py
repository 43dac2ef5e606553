from pathlib import Path

import pytest
import torch
from mmengine.logging import MessageHub

from mvp_mm.engine import build_runner, deferred_message_hub, load_config
from mvp_mm.engine.deferred_message_hub import DeferredMessageHub

CONFIG = Path(__file__).parents[2] / 'configs/mvp/vittiny_debug.py'


@pytest.fixture
def reads(monkeypatch):
    """How often tensors were read."""
    counted = []
    tolist, item = torch.Tensor.tolist, torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, 'tolist', lambda self: counted.append(self.shape) or tolist(self))
    monkeypatch.setattr(torch.Tensor, 'item', lambda self: counted.append(self.shape) or item(self))
    return counted


def fill(hub):
    """Three steps of a log, as a runner writes them."""
    for step in range(3):
        value = torch.full((), 1 / (step + 3), requires_grad=True)
        hub.update_scalar('train/loss', value * 2)
        hub.update_scalar('train/shaped', torch.tensor([step]), count=2)
        hub.update_scalar('train/time', 0.1 * step, resumed=False)
        with torch.no_grad():
            value.fill_(7)


def histories(hub):
    return {key: [list(part) for part in buffer.data] for key, buffer in hub.log_scalars.items()}


def test_histories_are_mmengines(reads):
    ours, mmengines = DeferredMessageHub('deferred'), MessageHub('plain')
    fill(ours)
    assert not reads
    fill(mmengines)
    assert len(reads) == 6
    reads.clear()
    assert histories(ours) == histories(mmengines)
    assert len(reads) == 2  # one of float32, one of int64
    assert histories(ours)['train/loss'][0] == pytest.approx([2 / 3, 1 / 2, 2 / 5])


def test_a_changed_value_is_the_one_of_its_time():
    hub, value = DeferredMessageHub('changing'), torch.ones(1)
    hub.update_scalar('loss', value)
    value.zero_()
    assert hub.get_scalar('loss').current() == 1


def test_order_with_plain_numbers():
    hub = DeferredMessageHub('mixed')
    for value in (torch.tensor(1.0), 2.0, torch.tensor(3.0)):
        hub.update_scalar('loss', value)
    assert list(hub.get_scalar('loss').data[0]) == [1, 2, 3]


def test_a_checkpoint_has_what_waits():
    hub = DeferredMessageHub('saved')
    fill(hub)
    saved = hub.state_dict()
    assert list(saved['log_scalars']['train/shaped'].data[0]) == [0, 1, 2]
    assert 'train/time' not in saved['log_scalars']
    restored = DeferredMessageHub('restored')
    restored.load_state_dict(saved)
    restored.update_scalar('train/loss', torch.tensor(0.5))
    assert restored.get_scalar('train/loss').data[0].size == 4


def test_what_waits_is_bounded(monkeypatch, reads):
    monkeypatch.setattr(deferred_message_hub, 'FLUSH_AFTER', 10)
    hub = DeferredMessageHub('bounded')
    for _ in range(25):
        hub.update_scalar('loss', torch.ones(()))
    assert len(reads) == 2
    assert hub.get_scalar('loss').data[0].size == 25


def test_everybody_gets_it():
    hub = DeferredMessageHub.as_instance('everybodys')
    assert isinstance(hub, DeferredMessageHub)
    assert MessageHub.get_instance('everybodys') is hub is DeferredMessageHub.as_instance('everybodys')
    assert MessageHub.get_current_instance() is hub


def test_more_than_one_number_is_refused():
    with pytest.raises(AssertionError):
        DeferredMessageHub('refusing').update_scalar('loss', torch.ones(2))


def test_a_run_logs_through_it(image_folder, tmp_path, monkeypatch):
    cfg = load_config(
        str(CONFIG),
        str(tmp_path / 'work'),
        cfg_options={
            'train_dataloader.dataset.data_root': str(image_folder),
            'train_dataloader.batch_size': 4,
            'train_dataloader.num_workers': 0,
            'train_dataloader.sampler.total_batch': 4,
            'auto_scale_lr.base_batch_size': 4,
            'model.backbone.arch.num_layers': 1,
            'train_cfg.max_epochs': 2,
            'default_hooks.logger.interval': 2,
            'visualizer.vis_backends': [],
        },
    )
    runner = build_runner(cfg)
    read, found = DeferredMessageHub._flush, []

    def watched(hub, key=None):
        before = len(hub._pending)
        read(hub, key)
        found.append(before - len(hub._pending))

    monkeypatch.setattr(DeferredMessageHub, '_flush', watched)
    runner.train()
    assert runner.message_hub.get_scalar('train/loss').data[0].size == runner.iter == 4
    of_two_steps = 2 * len(['loss', 'cosine_cls', 'cosine_visible', 'cosine_masked'])
    assert [number for number in found if number] == [of_two_steps, of_two_steps]
    logged = next((tmp_path / 'work').glob('*/*.log')).read_text()
    assert logged.count(' loss: ') == logged.count('grad_norm: ') == 2
