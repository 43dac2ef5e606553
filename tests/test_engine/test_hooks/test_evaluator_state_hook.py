from types import SimpleNamespace

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from torch import nn

from mvp_mm.engine import EvaluatorStateHook


class Counts:
    """Learns how often it was called."""

    prefix = 'count'

    def __init__(self, start=0):
        self.state = dict(calls=torch.tensor(start), seen=[])

    def after_train_iter(self, model, iteration):
        self.state['calls'] += 1
        self.state['seen'].append((type(model), iteration))

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


class Plain:
    prefix = 'plain'


@pytest.fixture
def lines():
    return []


@pytest.fixture
def runner(lines):
    model = object.__new__(MMDistributedDataParallel)
    nn.Module.__init__(model)
    model.module = nn.Linear(1, 1)
    return SimpleNamespace(model=model, iter=0, logger=SimpleNamespace(warning=lines.append))


def hook_of(*evaluators):
    hook = EvaluatorStateHook()
    hook.add(evaluators)
    return hook


def test_who_is_concerned():
    assert EvaluatorStateHook.concerns(Counts()) and not EvaluatorStateHook.concerns(Plain())
    assert hook_of(Plain(), Counts()).evaluators.keys() == {'count'}


def test_they_see_the_model_out_of_ddp(runner):
    one = Counts()
    hook_of(one).after_train_iter(runner, 0, None)
    assert one.state['seen'] == [(nn.Linear, 1)]


def test_state_of_a_resumed_run(runner, lines):
    checkpoint = {}
    hook_of(Counts(3)).before_save_checkpoint(runner, checkpoint)
    assert checkpoint['evaluators']['count']['calls'] == 3
    one, runner.iter = Counts(), 6
    hook = hook_of(one)
    hook.after_load_checkpoint(runner, checkpoint)
    assert one.state['calls'] == 0  # it is not known yet what for
    hook.before_train(runner)
    assert one.state['calls'] == 3
    one.state = dict(one.state, calls=torch.tensor(7))
    hook.before_val(runner)  # of the training, which has gone on
    assert one.state['calls'] == 7 and not lines


def test_state_of_a_new_training_and_of_a_test(runner, lines):
    checkpoint = dict(evaluators=dict(count=dict(calls=torch.tensor(3))))
    new = Counts()
    hook = hook_of(new)
    hook.after_load_checkpoint(runner, checkpoint)  # load_from
    hook.before_train(runner)
    assert new.state['calls'] == 0
    for stage in ('before_test', 'before_val'):
        tested = Counts()
        hook = hook_of(tested)
        hook.after_load_checkpoint(runner, checkpoint)
        getattr(hook, stage)(runner)
        assert tested.state['calls'] == 3
    assert not lines
    hook.after_load_checkpoint(runner, {})
    hook.before_test(runner)
    assert lines == ['The checkpoint holds no state of count, which begins anew']


def test_a_test_after_the_training():
    """The test's evaluator takes over; the training's goes on being saved."""
    trained, tested = Counts(5), Counts()
    hook = hook_of(trained)
    hook.add([tested])
    assert tested.state['calls'] == 5 and hook.evaluators['count'] is trained
