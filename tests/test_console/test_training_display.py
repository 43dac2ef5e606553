"""What is on the screen during a training."""

import io
import logging
import warnings
from types import SimpleNamespace

import pytest
from mmengine.logging import MessageHub, MMLogger, print_log
from rich.console import Console

from mvp_mm.console.training_display import TrainingDisplay, described


@pytest.fixture
def runner(request):
    """Of 40 iterations in two epochs, whose loss is 0.5."""
    hub = MessageHub.get_instance(request.node.name)
    hub.update_scalar('train/loss', 0.5)
    hub.update_scalar('train/images_per_second', 1234.4)
    hub.update_info('eta', 4000.2)
    return SimpleNamespace(
        iter=0,
        max_iters=40,
        epoch=0,
        max_epochs=2,
        message_hub=hub,
        log_processor=SimpleNamespace(by_epoch=True),
    )


def train(display, runner):
    display.before_train(runner)
    for runner.iter in range(runner.iter, 40):  # noqa: B020
        runner.epoch = runner.iter // 20
        display.after_train_iter(runner, 0)
    display.after_train(runner)


def test_lines_without_a_terminal(runner, capsys):
    with TrainingDisplay() as display:
        train(display, runner)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'epoch 1/2   10 %  loss 0.5000  1,234 images/s  1:06:40 left'
    assert [line[:17] for line in lines[4::5]] == ['epoch 1/2   50 % ', 'epoch 2/2  100 % ']
    assert len(lines) == 10
    runner.iter, runner.log_processor.by_epoch = 38, False
    with TrainingDisplay() as display:
        train(display, runner)
    assert capsys.readouterr().out.splitlines() == [
        'Resumed after iteration 38 of 40',
        'iteration 40/40  100 %  loss 0.5000  1,234 images/s  1:06:40 left',
    ]


def test_a_slow_training_gives_signs_of_life(runner, capsys, monkeypatch):
    """After 30 s, later after a tenth of the time that has passed."""
    seconds = iter([0.0, *(100.0 * iteration for iteration in range(1, 401))])
    monkeypatch.setattr('mvp_mm.console.training_display.time.perf_counter', lambda: next(seconds))
    runner.max_iters = 100_000
    with TrainingDisplay() as display:
        train(display, runner)
    shares = [line.split('%')[0] for line in capsys.readouterr().out.splitlines()]
    assert shares[:10] == ['epoch 1/2    0 '] * 10 and 10 < len(shares) < 30


def test_bar_on_a_terminal(runner):
    screen = io.StringIO()
    with TrainingDisplay() as display:
        display.console = Console(file=screen, force_terminal=True, width=100)
        train(display, runner)
    last = screen.getvalue().split('\r')[-1]
    assert 'trained' in last and '100%' in last and '1,234 images/s' in last


def test_only_warnings_reach_the_screen(tmp_path, capsys):
    logger = MMLogger.get_instance('display', log_file=str(tmp_path / 'log'))
    with TrainingDisplay() as display:
        print_log('the whole config', 'current')
        for _ in range(2):
            print_log('Total batch: less [than] the recipe', 'current', logging.WARNING)
        print_log('"FileClient" will be deprecated in future', 'current', logging.WARNING)
        logger.error('the disk is full')
        warnings.warn('torch changes something', FutureWarning, stacklevel=1)
        display.after_val_epoch(SimpleNamespace(iter=7), {'accuracy/top1': 50.0, 'mIoU': 12.3456})
    assert capsys.readouterr().out.splitlines() == [
        'WARNING: Total batch: less [than] the recipe',
        'ERROR: the disk is full',
        'validated after iteration 7: accuracy/top1 50, mIoU 12.35',
    ]
    written = (tmp_path / 'log').read_text()
    for text in ('the whole config', 'Total batch', '"FileClient"', 'FutureWarning: torch changes something'):
        assert text in written
    print_log('afterwards', 'current')
    assert 'afterwards' in capsys.readouterr().out


def test_verbose_leaves_the_screen_to_mmengine(capsys):
    MMLogger.get_instance('verbose display')
    with TrainingDisplay(verbose=True):
        print_log('the whole config', 'current')
    assert 'mmengine - INFO - the whole config' in capsys.readouterr().out


def test_only_the_first_process_speaks(capsys, monkeypatch):
    monkeypatch.setattr('mvp_mm.console.training_display.is_main_process', lambda: False)
    TrainingDisplay().say('hello')
    assert not capsys.readouterr().out


def test_results_in_one_line():
    assert described({'a/x': 0.123456, 'b': 12.0}) == 'a/x 0.1235, b 12'
    assert described({'a/x': 0.5, 'a/xy': 12.0}) == 'a: x 0.5, xy 12'
    many = described({f'of/{number}': float(number) for number in range(20)})
    assert many == 'of: 0 0, 1 1, 2 2, 3 3, 4 4, 5 5, 6 6, 7 7 and 12 more'
