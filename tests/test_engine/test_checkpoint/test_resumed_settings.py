"""A run that is resumed with other settings goes on by these, and says so."""

import pytest
import torch
from exact_runs import Killed, Watch, build
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger

from mvp_mm.engine.checkpoint.resumed_settings import config_changes


class Rates(Hook):
    """Notes the optimiser's settings with which each iteration is trained."""

    def __init__(self):
        self.seen = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        group = runner.optim_wrapper.optimizer.param_groups[0]
        self.seen[runner.iter] = [
            group[key] for key in ('lr', 'weight_decay', 'betas', 'eps') if key in group
        ]


@pytest.fixture
def told(monkeypatch):
    """What the log warns of."""
    lines = []
    monkeypatch.setattr(MMLogger, 'warning', lambda self, text, *more: lines.append(text))
    return lines


def trained(folder, **more):
    """A run to its end: the settings by iteration, and the runner."""
    rates = Rates()
    runner = build(folder, Watch(), hooks=[rates], **more)
    runner.train()
    return rates.seen, runner


def cosine(length, **more):
    """A warm-up of a sixth and a cosine, over so many epochs, counted in iterations."""
    return [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=length),
        dict(type='CosineAnnealingLR', by_epoch=False, begin=length, end=6 * length, **more),
    ]


def adam(**more):
    return dict(type='AdamW', **dict(dict(lr=0.05), **more))


SCHEDULES = {
    'iterations': lambda epochs: cosine(epochs),
    'converted': lambda epochs: [
        dict(type='LinearLR', start_factor=0.1, end=1, convert_to_iter_based=True),
        dict(type='CosineAnnealingLR', begin=1, end=epochs, convert_to_iter_based=True),
    ],
    'epochs': lambda epochs: [
        dict(type='PolyLR', begin=0, end=epochs, power=0.9),
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=8),
    ],
    'steps': lambda epochs: [dict(type='MultiStepLR', milestones=[epochs // 4, epochs // 2], gamma=0.5)],
    'one cycle': lambda epochs: [
        dict(type='OneCycleLR', eta_max=0.1, total_steps=6 * epochs, by_epoch=False)
    ],
    'momentum': lambda epochs: [dict(type='CosineAnnealingMomentum', begin=0, end=epochs)],
}


@pytest.mark.parametrize('kind', SCHEDULES)
def test_a_longer_training(kind, told, tmp_path):
    straight, _ = trained(tmp_path / 'straight', epochs=4, schedule=SCHEDULES[kind](4))
    trained(tmp_path / 'run', schedule=SCHEDULES[kind](2))
    assert told == []
    seen, _ = trained(tmp_path / 'run', epochs=4, schedule=SCHEDULES[kind](4), resume=True)
    assert seen == {iteration: straight[iteration] for iteration in range(12, 24)}
    assert len(told) == 1 and 'learning rate' in told[0] and 'after 12 iterations' in told[0]


def test_an_unchanged_one_cycle_goes_on(told, tmp_path):
    """Its state has a function, which a checkpoint does not hold."""
    schedule = SCHEDULES['one cycle'](2)
    straight, whole = trained(tmp_path / 'straight', schedule=schedule)
    with pytest.raises(Killed):
        build(tmp_path / 'run', Watch(kill_after=8), schedule=schedule).train()
    seen, rest = trained(tmp_path / 'run', schedule=schedule, resume=True)
    assert seen == {iteration: straight[iteration] for iteration in range(6, 12)} and told == []
    for one, other in zip(whole.model.parameters(), rest.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize('sampler', ['EndlessSampler', 'EpochSampler'])
def test_iterations(sampler, told, tmp_path):
    more = dict(by_epoch=False, sampler=sampler, interval=5)
    straight, _ = trained(tmp_path / 'straight', iters=18, schedule=cosine(3), **more)
    with pytest.raises(Killed):
        build(tmp_path / 'run', Watch(kill_after=7), **more).train()
    seen, _ = trained(tmp_path / 'run', iters=18, schedule=cosine(3), resume=True, **more)
    assert seen == {iteration: straight[iteration] for iteration in range(5, 18)}
    assert 'CosineAnnealingLR.T_max 8 -> 15' in told[0]


def test_other_settings_of_the_optimiser(told, tmp_path):
    other = adam(lr=0.01, weight_decay=0.2, betas=(0.8, 0.9), eps=1e-6)
    straight, _ = trained(tmp_path / 'straight', optimizer=other)
    with pytest.raises(Killed):
        build(tmp_path / 'run', Watch(kill_after=8)).train()
    moments = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=True)['optimizer']['state']
    runner = build(tmp_path / 'run', Watch(), optimizer=other, resume=True, epochs=1)
    runner.train()  # which has nothing left to do
    for number, parameter in enumerate(runner.model.parameters()):
        assert torch.equal(
            moments[number]['exp_avg'], runner.optim_wrapper.optimizer.state[parameter]['exp_avg']
        )
    seen, _ = trained(tmp_path / 'run', optimizer=other, resume=True)
    assert seen == {iteration: straight[iteration] for iteration in range(6, 12)}
    assert seen[11][1:] == [0.2, (0.8, 0.9), 1e-6]
    for change in (
        'lr 0.05 -> 0.01',
        'weight_decay 0.01 -> 0.2',
        'betas (0.9, 0.999) -> (0.8, 0.9)',
        'eps 1e-08',
    ):
        assert change in told[0], change
    assert told[1] == 'Nothing is left to train: 1 of 1 epoch done'


def test_without_a_schedule_before_or_now(told, tmp_path):
    with pytest.raises(Killed):
        build(tmp_path / 'a', Watch(kill_after=8), schedule=[dict(type='ConstantLR', factor=1.0)]).train()
    straight, _ = trained(tmp_path / 'straight')
    seen, _ = trained(tmp_path / 'a', resume=True)
    assert seen == {iteration: straight[iteration] for iteration in range(6, 12)}
    assert '1 schedules -> 2' in told[0]


def test_other_images(told, tmp_path):
    """An epoch of another length: the schedule is where so many epochs of it end."""
    schedule = SCHEDULES['converted'](2)
    straight, _ = trained(tmp_path / 'straight', size=40, schedule=schedule)
    with pytest.raises(Killed):
        build(tmp_path / 'run', Watch(kill_after=8), schedule=schedule).train()
    seen, _ = trained(tmp_path / 'run', size=40, schedule=schedule, resume=True)
    assert seen == {iteration: straight[iteration] for iteration in range(10, 20)}
    assert any('after 10 iterations' in line for line in told)


def test_parameter_groups_of_their_own(told, tmp_path):
    """Several groups, and the settings that the log shows as base."""
    rates = Rates()

    def run(folder, factor, watch=None, **more):
        optimizer = adam(weight_decay=0.1)
        runner = build(tmp_path / folder, watch or Watch(), optimizer=optimizer, hooks=[rates], **more)
        runner.optim_wrapper['paramwise_cfg'] = dict(bias_lr_mult=factor, norm_decay_mult=0.0)
        runner.train()
        return [dict(group, params=None) for group in runner.optim_wrapper.param_groups]

    straight = run('straight', 3.0, epochs=3, schedule=cosine(3))
    with pytest.raises(Killed):
        run('run', 2.0, Watch(kill_after=8))
    assert run('run', 3.0, epochs=3, schedule=cosine(3), resume=True) == straight
    assert 'lr 0.1 -> 0.15' in told[0] and 'parameter groups)' in told[0]


def test_iterations_become_epochs_and_back(told, tmp_path):
    straight, _ = trained(tmp_path / 'straight')
    with pytest.raises(Killed):
        build(tmp_path / 'a', Watch(kill_after=9), by_epoch=False, sampler='EpochSampler', interval=4).train()
    seen, runner = trained(tmp_path / 'a', resume=True)
    assert seen == {iteration: straight[iteration] for iteration in range(8, 12)} and runner.epoch == 2
    with pytest.raises(Killed):
        build(tmp_path / 'b', Watch(kill_after=8)).train()
    seen, _ = trained(tmp_path / 'b', by_epoch=False, sampler='EpochSampler', resume=True)
    assert seen == {iteration: straight[iteration] for iteration in range(6, 12)}


def test_the_precision_of_another_machine(told, tmp_path):
    with pytest.raises(Killed):
        build(tmp_path, Watch(kill_after=8)).train()
    path = tmp_path / 'epoch_1.pth'
    checkpoint = torch.load(path, weights_only=True)
    checkpoint['meta']['restart']['precision'] = 'bfloat16'
    torch.save(checkpoint, path)
    trained(tmp_path, resume=True)
    assert told == ["This config differs from the checkpoint's: computed in bfloat16 -> float32."]


@pytest.mark.parametrize(
    'more,says',
    [
        (dict(optimizer=dict(type='SGD', lr=0.1)), 'has the state of AdamW, and this config trains with SGD'),
        (dict(optimizer=adam(amsgrad=True)), 'amsgrad=False, and lacks the state for amsgrad=True'),
        (
            dict(schedule=[dict(type='ReduceOnPlateauLR', monitor='zero')]),
            'cannot go on from .* with other settings .2 schedules -> 1.: its schedule follows the results',
        ),
    ],
    ids=['optimiser', 'amsgrad', 'plateau'],
)
def test_what_cannot_be_gone_on_with(more, says, tmp_path):
    with pytest.raises(Killed):
        build(tmp_path, Watch(kill_after=8)).train()
    with pytest.raises(ValueError, match=says):
        build(tmp_path, Watch(), resume=True, **more).train()


def test_the_optimiser_of_a_checkpoint_of_mmengine(tmp_path):
    """Which says in its config what it was."""
    configs = [Config(dict(optim_wrapper=dict(optimizer=dict(type=kind)))) for kind in ('AdamW', 'SGD')]
    with pytest.raises(Killed):
        build(tmp_path, Watch(kill_after=8), cfg=configs[0]).train()
    path = tmp_path / 'epoch_1.pth'
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint['meta']['restart']
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match="the state of 'AdamW', and this config trains with 'SGD'"):
        build(tmp_path, Watch(), resume=True, cfg=configs[1], optimizer=dict(type='SGD', lr=0.1)).train()


def test_other_parameter_groups(tmp_path):
    with pytest.raises(Killed):
        build(tmp_path, Watch(kill_after=8)).train()
    runner = build(tmp_path, Watch(), resume=True)
    runner.optim_wrapper['paramwise_cfg'] = dict(bias_lr_mult=2.0)
    with pytest.raises(
        ValueError, match=r'groups of 6 tensors, .* groups of 1, 1, 1, 1, 1, 1 .optim_wrapper.paramwise_cfg'
    ):
        runner.train()


def test_the_same_config_changes_nothing(told, tmp_path):
    with pytest.raises(Killed):
        build(tmp_path, Watch(kill_after=8)).train()
    trained(tmp_path, resume=True)
    assert told == []


def test_config_changes():
    before = (
        "model = dict(type='MVP', backbone=dict(drop_path_rate=0.1, init_cfg=dict(type='Pretrained')))\n"
        "train_dataloader = dict(num_workers=4, dataset=dict(pipeline=[dict(a=(1, 2)), dict(type='B')]))\n"
        "randomness = {'seed': 0}\nwork_dir = 'a'\n"
    )
    after = (
        "model = dict(type='MVP', backbone=dict(drop_path_rate=0.2, init_cfg=None))\n"
        'train_dataloader = dict(num_workers=8, dataset=dict(pipeline=[dict(a=[1, 2])]))\n'
        "randomness = {'seed': 1}\nwork_dir = 'b'\n"
    )
    assert config_changes(before, before) == []
    assert config_changes(before, after) == [
        "randomness.seed 0 -> 1 (the checkpoint's is kept)",
        'model.backbone.drop_path_rate 0.1 -> 0.2',
        'train_dataloader.dataset.pipeline 2 entries -> 1 entries',
    ]
    for text in (None, '', 'model = (', 'import os\nos.abort()', b'\xff', 7):
        assert config_changes(text, after) == []
