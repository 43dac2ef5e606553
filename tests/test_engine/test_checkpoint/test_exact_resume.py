"""A run that was stopped and gone on with is the run that was never stopped, bit for bit."""

import random

import numpy as np
import pytest
import torch
from exact_runs import Killed, Watch, build, finish, processes_of_a_job
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import BatchSampler, DataLoader
from torchrun_jobs import forked

from mvp_mm.engine.checkpoint.exact_resume import exact_loop, random_state, set_random_state
from mvp_mm.engine.loops.exact_epoch_loop import ExactEpochLoop


def cut(folder, kill_after, **more):
    """A run that ends after so many iterations."""
    with pytest.raises(Killed):
        build(folder, Watch(kill_after=kill_after), **more).train()


def resumed(folder, **more):
    """The rest of it, in a process that has drawn other numbers."""
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    watch = Watch()
    runner = build(folder, watch, resume=True, **more)
    return runner, *finish(runner, watch), watch


def assert_same(whole, rest, done):
    """The losses after ``done`` iterations and the final state are equal."""
    (losses, state), (losses_after, state_after) = whole, rest
    assert losses_after == losses[done:] and len(losses) == 12
    for name, value in state.items():
        assert torch.equal(value, state_after[name]), name


@pytest.fixture
def whole(tmp_path):
    """``whole(**options)``: losses and final state of the undisturbed run."""

    def run(**more):
        watch = Watch()
        runner = build(tmp_path / 'whole', watch, **more)
        return runner, finish(runner, watch)

    return run


@pytest.mark.parametrize(
    'more',
    [
        dict(),
        dict(accumulation=2),
        dict(sampler='DefaultSampler'),
        dict(by_epoch=False, sampler='EndlessSampler'),
        dict(by_epoch=False, sampler='InfiniteSampler', accumulation=2),
        dict(by_epoch=False, sampler='EpochSampler'),
    ],
    ids=lambda more: '-'.join(map(str, more.values())) or 'plain',
)
def test_in_the_middle(more, whole, tmp_path):
    often = dict(more, saved_by_epoch=False, interval=2)
    first, expected = whole(**often)
    cut(tmp_path / 'cut', 3, **often)
    for done in (2, 6, 8):  # in the first epoch, between the two, in the second
        source = {} if done == 2 else dict(load_from=str(tmp_path / f'whole/iter_{done}.pth'))
        runner, *rest, _ = resumed(tmp_path / ('cut' if done == 2 else f'from-{done}'), **often, **source)
        assert_same(expected, rest, done)
        assert runner.optim_wrapper.get_lr() == first.optim_wrapper.get_lr()
        assert runner.optim_wrapper.inner_count == first.optim_wrapper.inner_count == 12
        for name in ('train/loss', 'train/grad_norm', 'train/lr'):
            histories = [one.message_hub.get_scalar(name).data[0] for one in (first, runner)]
            assert np.array_equal(*histories), name


def test_between_epochs_with_a_validation(whole, tmp_path):
    _, expected = whole(validate=True)
    with pytest.raises(Killed):
        build(tmp_path / 'cut', Watch(in_validation=6), validate=True).train()
    _, *rest, watch = resumed(tmp_path / 'cut', validate=True)
    assert_same(expected, rest, 6)
    assert watch.validated == [6, 12]  # the one that was cut off is made up for


def test_a_validation_changes_nothing(whole, tmp_path):
    _, without = whole()
    watch = Watch()
    validated = finish(build(tmp_path / 'validated', watch, validate=True), watch)
    assert_same(without, validated, 0)


def test_a_validation_is_not_repeated(tmp_path):
    more = dict(by_epoch=False, sampler='EndlessSampler', validate=True, interval=3)
    cut(tmp_path, 8, **more)
    watch = resumed(tmp_path, **more)[-1]
    assert watch.validated == [6, 9, 12]  # the checkpoint of iteration 6 was written before its validation
    cut(tmp_path / 'b', 8, **dict(more, interval=7))
    assert resumed(tmp_path / 'b', **dict(more, interval=7))[-1].validated == [9, 12]


def test_another_number_of_workers(whole, tmp_path):
    _, expected = whole(workers=0)
    more = dict(saved_by_epoch=False, interval=4)
    cut(tmp_path / 'cut', 5, workers=1, **more)
    _, *rest, _ = resumed(tmp_path / 'cut', workers=2, **more)
    assert_same(expected, rest, 4)


@pytest.mark.slow
def test_workers_without_an_end(whole, tmp_path):
    more = dict(by_epoch=False, sampler='EndlessSampler', interval=7)
    _, expected = whole(workers=0, **more)
    cut(tmp_path / 'cut', 8, workers=0, **more)
    _, *rest, _ = resumed(tmp_path / 'cut', workers=1, **more)
    assert_same(expected, rest, 7)


@pytest.mark.slow
def test_a_drawn_seed_is_kept(tmp_path):
    more = dict(seed=None, saved_by_epoch=False, interval=4)
    watch = Watch(kill_after=8)
    with pytest.raises(Killed):
        build(tmp_path, watch, **more).train()
    checkpoints = sorted(path.name for path in tmp_path.glob('*.pth'))
    assert checkpoints == ['iter_4.pth', 'iter_8.pth']
    _, losses, _, _ = resumed(tmp_path, load_from=str(tmp_path / 'iter_4.pth'), **more)
    assert losses[:4] == watch.losses[4:]


def test_a_checkpoint_waits_for_the_step(tmp_path):
    cut(tmp_path, 10, saved_by_epoch=False, interval=3, accumulation=2)
    saved = {torch.load(path, weights_only=True)['meta']['iter'] for path in tmp_path.glob('*.pth')}
    assert saved == {4, 6, 10}


def test_a_random_state_is_plain_data(tmp_path):
    random.gauss(0, 1)
    np.random.randn()
    state = random_state()
    torch.save(state, tmp_path / 'state.pth')
    drawn = [torch.rand(2).tolist(), np.random.randn(3).tolist(), random.gauss(0, 1), random.random()]
    set_random_state(torch.load(tmp_path / 'state.pth', weights_only=True))
    again = [torch.rand(2).tolist(), np.random.randn(3).tolist(), random.gauss(0, 1), random.random()]
    assert again == drawn


def test_other_images_an_iteration(tmp_path):
    cut(tmp_path, 7)
    with pytest.raises(ValueError, match='iterations of 8 images, .* of one with 4: .*batch_size=4 keeps'):
        resumed(tmp_path, batch=8)


def test_a_checkpoint_without_random_states(tmp_path, caplog):
    cut(tmp_path, 8)
    path = tmp_path / 'epoch_1.pth'
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint['meta']['restart']
    torch.save(checkpoint, path)
    _, losses, _, _ = resumed(tmp_path)
    assert [iteration for iteration, *_ in losses] == [6, 7, 8, 9, 10, 11]


class OwnBatches(BatchSampler):
    """A batch sampler of which nothing is known."""


def test_a_loader_that_cannot_begin_in_the_middle():
    loop = ExactEpochLoop.__new__(ExactEpochLoop)
    data = list(range(8))
    for batches in (BatchSampler(data, 2, False), OwnBatches(data, 2, False)):
        loop.dataloader = DataLoader(data, batch_sampler=batches)
        assert [batch.tolist() for batch in loop._batches(2)] == [[4, 5], [6, 7]]
        assert [batch.tolist() for batch in loop._batches(0)] == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_two_processes(tmp_path):
    (first, loss), (second, other_loss) = forked(processes_of_a_job, tmp_path)
    # all act a step after the signal, or in the last one at once
    expected = dict(losses=True, number=8, weights=True, early=(143, 'iter_4.pth'), late=(143, 'iter_12.pth'))
    assert first == second == expected
    assert loss != other_loss  # each has images of its own
    logs = ''.join(path.read_text() for path in (tmp_path / 'early').rglob('*.log'))
    assert logs.count('Stopped by SIGTERM after 4 iterations: ') == 1  # once for both


def test_mmengines_loops_are_replaced():
    for given in ('EpochBasedTrainLoop', 'mmengine.EpochBasedTrainLoop', EpochBasedTrainLoop):
        assert exact_loop(dict(type=given, max_epochs=2)) == dict(type='ExactEpochLoop', max_epochs=2)
    assert exact_loop(dict(by_epoch=True, max_epochs=2)) == dict(type='ExactEpochLoop', max_epochs=2)
    assert exact_loop(dict(by_epoch=False, max_iters=2)) == dict(type='ExactIterLoop', max_iters=2)
    assert exact_loop(dict(type='IterBasedTrainLoop')) == dict(type='ExactIterLoop')


def test_others_stay():
    for loop in (
        dict(type='SomeLoop'),
        dict(type='ExactIterLoop'),
        dict(max_iters=2),
        dict(type='a', by_epoch=1),
    ):
        assert exact_loop(loop) == loop
