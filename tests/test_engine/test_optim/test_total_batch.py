import logging
from types import SimpleNamespace

import pytest
import torch
from exact_runs import Watch, build
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

from mvp_mm.engine import SafeCheckpointHook, plan_total_batch
from mvp_mm.engine.optim.total_batch import _stretch_iterations, keep_total_batch


@pytest.mark.parametrize(
    ('total', 'processes', 'batch', 'iterations', 'accumulation'),
    [
        (2048, 8, 256, 625, 1),
        (2048, 4, 256, 1250, 2),
        (2048, 1, 256, 5000, 8),
        (2048, 64, 32, 625, 1),
        (2048, 1, 1, 1_280_000, 2048),
        (16, 1, 4, 4, 4),  # one step an epoch
        (16, 4, 4, None, 1),  # a loop without an end, at the recipe's batch
        (16, 1, 8, None, 2),
        (16, 1, 16, 0, 1),
    ],
)
def test_kept(total, processes, batch, iterations, accumulation):
    plan = plan_total_batch(total, processes, batch, iterations)
    assert plan.accumulation == accumulation
    assert plan.lr_scale == 1
    assert plan.keeps_recipe
    word = 'process' if processes == 1 else 'processes'
    images = 'image' if batch == 1 else 'images'
    assert plan.message.startswith(f'Total batch: {processes} {word} x {batch} {images} ')
    assert f'= {total}, as the recipe says' in plan.message
    assert ('accumulated' in plan.message) == (accumulation > 1)


@pytest.mark.parametrize(
    ('total', 'processes', 'batch', 'iterations', 'scale', 'reason'),
    [
        (2048, 3, 256, 1664, 768 / 2048, 'no multiple'),
        (2048, 1, 250, 5000, 250 / 2048, 'no multiple'),
        (2048, 16, 256, 312, 2.0, 'no multiple'),
        (2048, 1, 16, 25, 16 / 2048, 'only 25 iterations, less than 2048 images'),
    ],
)
def test_not_kept(total, processes, batch, iterations, scale, reason):
    plan = plan_total_batch(total, processes, batch, iterations)
    assert plan.accumulation == 1
    assert plan.lr_scale == scale
    assert not plan.keeps_recipe
    at_once = processes * batch
    assert f'x {batch} images = {at_once} instead of the {total} of the recipe' in plan.message
    assert f'scaled by {at_once}/{total} = {scale:.4g}.' in plan.message
    assert reason in plan.message


@pytest.mark.parametrize(
    ('total', 'processes', 'batch', 'advice'),
    [(8, 2, 8, 4), (2048, 16, 256, 128), (2048, 1, 250, 128), (2048, 3, 256, None), (2048, 1, 16, None)],
)
def test_advice(total, processes, batch, advice):
    message = plan_total_batch(total, processes, batch, 25 if batch == 16 else 5000).message
    assert message.endswith(f' train_dataloader.batch_size={advice} would keep the recipe.') == bool(advice)
    assert ('train_dataloader.batch_size' in message) == bool(advice)


@pytest.mark.parametrize(
    ('total', 'processes', 'batch', 'scale', 'advice'),
    [
        (1024, 1, 64, 1 / 16, 1024),
        (1024, 8, 64, 1 / 2, 128),
        (2048, 3, 256, 3 / 8, None),
        (16, 1, 4, 1 / 4, 16),
    ],
)
def test_a_coupled_batch_is_not_accumulated(total, processes, batch, scale, advice):
    plan = plan_total_batch(total, processes, batch, 10_000, batch_coupled=True)
    assert (plan.accumulation, plan.lr_scale, plan.keeps_recipe) == (1, scale, False)
    at_once = processes * batch
    assert f'x {batch} images = {at_once} instead of the {total} of the recipe' in plan.message
    assert '(the loss couples the samples of a batch, so it is not made up by accumulation)' in plan.message
    expected = f'The learning rate is scaled by {at_once}/{total} = {scale:.4g}.'
    if advice:
        expected += f' train_dataloader.batch_size={advice} would keep the recipe.'
    assert plan.message.endswith(expected)


def test_a_coupled_batch_that_is_the_recipes_or_larger():
    assert plan_total_batch(1024, 8, 128, 100, batch_coupled=True) == plan_total_batch(1024, 8, 128, 100)
    assert plan_total_batch(1024, 16, 128, 100, batch_coupled=True) == plan_total_batch(1024, 16, 128, 100)


class Regression(BaseModel):
    """No draws and no batch normalisation: the gradient of a batch is the mean of its parts'."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, inputs, mode):
        return dict(loss=(self.layers(inputs) - inputs.sum(1, keepdim=True)).square().mean())


class Coupled(Regression):
    batch_coupled = True


@pytest.fixture
def train(tmp_path, monkeypatch):
    """``train(batch, ...)``: train on 16 samples; the runner, and the lines about the batch."""

    def run(batch, model=Regression, lr=1e-3, **options):
        lines = []
        monkeypatch.setattr(
            MMLogger,
            'callHandlers',
            lambda self, record: lines.append((record.levelname, record.getMessage())),
        )
        monkeypatch.setattr('exact_runs.Model', model)
        more = dict(batch=batch, size=16, epochs=1, optimizer=dict(type='SGD', lr=lr, weight_decay=0.05))
        more |= dict(auto_scale_lr=dict(base_batch_size=8)) | options
        runner = build(tmp_path / 'work', Watch(), **more)
        runner.param_schedulers = None
        runner.optim_wrapper['constructor'] = 'MVPOptimWrapperConstructor'
        runner.logger.setLevel(logging.INFO)
        runner.train()
        return runner, [line for line in lines if line[1].startswith('Total batch')]

    return run


def learning_rates(runner):
    return sorted({group['lr'] for group in runner.optim_wrapper.optimizer.param_groups})


def test_runner_accumulates(train):
    runner, ((level, message),) = train(2)
    assert runner.optim_wrapper._accumulative_counts == 4
    assert learning_rates(runner) == [1e-3]
    assert runner.iter == 8
    assert level == 'INFO'
    assert message == 'Total batch: 1 process x 2 images x 4 accumulated iterations = 8, as the recipe says.'


def test_runner_does_not_accumulate_a_coupled_batch(train):
    runner, ((level, message),) = train(2, Coupled)
    assert runner.optim_wrapper._accumulative_counts == 1
    assert learning_rates(runner) == pytest.approx([1e-3 / 4])
    assert (
        level == 'WARNING' and '= 2 instead of the 8 of the recipe (the loss couples the samples' in message
    )


def test_a_wrapped_model_is_asked_too():
    model = Coupled()
    wrapper = SimpleNamespace(
        optimizer=torch.optim.SGD(model.parameters(), lr=1.0),
        base_param_settings=None,
        _accumulative_counts=1,
    )
    runner = SimpleNamespace(
        model=nn.DataParallel(model),
        world_size=2,
        train_dataloader=torch.utils.data.DataLoader(range(64), batch_size=4),
        _train_loop=None,
        logger=logging.getLogger('wrapped'),
    )
    keep_total_batch(runner, wrapper, 32)
    assert wrapper._accumulative_counts == 1 and wrapper.optimizer.param_groups[0]['lr'] == 8 / 32


def test_runner_scales_the_learning_rate(train):
    runner, ((level, message),) = train(3)
    assert runner.optim_wrapper._accumulative_counts == 1
    assert learning_rates(runner) == pytest.approx([1e-3 * 3 / 8])
    assert runner.optim_wrapper.get_lr()['base_lr'] == [pytest.approx(1e-3 * 3 / 8)]
    assert level == 'WARNING'
    assert '= 3 instead of the 8 of the recipe (8 is no multiple of that)' in message


def test_runner_with_fewer_images_than_a_total_batch(train):
    runner, ((level, message),) = train(4, auto_scale_lr=dict(base_batch_size=32))
    assert runner.optim_wrapper._accumulative_counts == 1
    assert learning_rates(runner) == pytest.approx([1e-3 / 8])
    assert runner.iter == 4
    assert level == 'WARNING'
    assert 'only 4 iterations, less than 32 images' in message


def test_a_recipe_of_optimiser_steps_is_stretched(train):
    """Accumulated iterations count once each: the length, and the intervals of checkpoints."""
    runner, _ = train(2, by_epoch=False, iters=3, interval=1)
    assert runner.iter == runner.max_iters == 12
    assert [hook.interval for hook in runner.hooks if type(hook).__name__ == 'SafeCheckpointHook'] == [4]


def stretched(schedules, hooks=(), evaluators=()):
    """The loop of a run of ten optimiser steps, each of which takes four iterations."""
    loop = SimpleNamespace(
        _max_iters=10, val_interval=5, val_begin=3, dynamic_intervals=[5], dynamic_milestones=[0]
    )
    runner = SimpleNamespace(
        _train_loop=loop,
        _val_loop=dict(type='EvaluatorLoop', evaluators=evaluators),
        param_schedulers=schedules,
        hooks=hooks,
        logger=logging.getLogger('schedules'),
    )
    _stretch_iterations(runner, 4)
    return loop


def test_schedules_are_stretched():
    """Those that count iterations, milestones included."""
    schedules = [
        dict(type='LinearLR', by_epoch=False, begin=0, end=2),
        dict(type='MultiStepLR', by_epoch=False, milestones=[6, 8]),
        dict(type='MultiStepLR', by_epoch=True, milestones=[6, 8]),
    ]
    hook = SafeCheckpointHook(interval=2, by_epoch=False, save_begin=4)
    evaluators = [dict(interval=5), dict(interval=None)]
    loop = stretched(schedules, [hook], evaluators)
    assert (loop._max_iters, loop.val_interval, loop.val_begin, loop.dynamic_intervals) == (40, 20, 12, [20])
    assert schedules[0]['end'] == 8
    assert [one['milestones'] for one in schedules[1:]] == [[24, 32], [6, 8]]
    assert (hook.interval, hook.save_begin) == (8, 16)
    assert [one['interval'] for one in evaluators] == [20, None]


@pytest.mark.parametrize(
    'schedule',
    [
        dict(type='CosineAnnealingLR', T_max=10, begin=0, end=10),
        dict(type='CosineRestartLR', periods=[4, 6], restart_weights=[1, 0.5], eta_min=0.0),
        dict(type='ExponentialLR', gamma=0.8),
        dict(type='LinearLR', begin=0, end=5, start_factor=0.1),
        dict(type='MultiStepLR', milestones=[3, 7], gamma=0.5),
        dict(type='OneCycleLR', total_steps=10, eta_max=1.0),
        dict(type='PolyLR', begin=0, end=10),
        dict(type='StepLR', step_size=4, gamma=0.5),
    ],
    ids=lambda schedule: schedule['type'],
)
def test_every_schedule_reaches_the_same_rates_at_the_same_steps(schedule):
    def rates(schedule, iterations):
        optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
        schedule = PARAM_SCHEDULERS.build(dict(schedule, optimizer=optimizer))
        found = []
        for _ in range(iterations):
            found.append(optimizer.param_groups[0]['lr'])
            optimizer.step()
            schedule.step()
        return found

    schedule['by_epoch'] = False
    before = rates(schedule, 10)
    stretched(schedule)  # a single one, as MMEngine allows
    after = rates(schedule, 40)
    assert after[0] == pytest.approx(before[0])
    if schedule['type'] in ('LinearLR', 'OneCycleLR', 'PolyLR'):  # these reach their end with the last one
        assert after[-1] == pytest.approx(before[-1])
    else:
        assert after[::4] == pytest.approx(before)


def test_config_as_it_stands(train):
    runner, messages = train(2, auto_scale_lr=None, accumulation=2)
    assert runner.optim_wrapper._accumulative_counts == 2
    assert learning_rates(runner) == [1e-3]
    assert messages == []


def test_mmengines_own_rule_on_request(train):
    runner, messages = train(2, auto_scale_lr=dict(base_batch_size=8, enable=True))
    assert runner.optim_wrapper._accumulative_counts == 1
    assert learning_rates(runner) == pytest.approx([1e-3 / 4])
    assert messages == []


def test_accumulated_step_equals_one_step_of_the_whole_batch(train):
    """Two steps of 8 samples, as 1 x 8 and as 4 x 2; gradients are clipped in both."""
    weights, norms = [], []
    for batch in (8, 2):
        runner, _ = train(batch, lr=1.0)
        assert runner.iter == 16 // batch
        weights.append({name: value.clone() for name, value in runner.model.state_dict().items()})
        norms.append(runner.message_hub.get_scalar('train/grad_norm').data[0])
    assert len(norms[0]) == len(norms[1]) == 2
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert min(norms[0]) > 1.0  # the limit
    whole, accumulated = weights
    for name, value in whole.items():
        torch.testing.assert_close(accumulated[name], value, rtol=0, atol=1e-5)
    untrained, _ = train(8, lr=0.0)
    moved = max((value - whole[name]).abs().max() for name, value in untrained.model.state_dict().items())
    assert moved > 1e-3  # so that equality above says something
