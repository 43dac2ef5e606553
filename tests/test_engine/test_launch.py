"""What the command-line tools share."""

import logging
import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger

from mvp_mm.engine import build_runner, load_config
from mvp_mm.engine.build_runner import follow_num_classes
from mvp_mm.engine.command_line import argument_parser

ROOT = Path(__file__).parents[2]


@pytest.fixture
def debug_config(image_folder, tmp_path):
    cfg = load_config(str(ROOT / 'configs/mvp/vittiny_debug.py'), str(tmp_path / 'run'))
    cfg.train_dataloader.dataset.data_root = str(image_folder)
    cfg.model.backbone.arch.num_layers = 1
    return cfg


def test_nothing_to_resume(debug_config, monkeypatch):
    lines = []
    monkeypatch.setattr(
        MMLogger, 'callHandlers', lambda self, record: lines.append((record.levelno, record.getMessage()))
    )
    debug_config.resume = True
    runner = build_runner(debug_config)
    runner.load_or_resume()
    message = f'There is no checkpoint to resume in {runner.work_dir}: training starts at the beginning'
    assert (logging.WARNING, message) in lines
    assert not any('Auto resumed' in line for _, line in lines)


def test_two_runs_of_one_second(debug_config, monkeypatch):
    """They share no log, and no visualizer."""
    monkeypatch.setattr('mmengine.runner.runner.time.time', lambda: 1e9)
    debug_config.visualizer.vis_backends = []
    first, second = build_runner(debug_config), build_runner(debug_config)
    assert second.timestamp == f'{first.timestamp}_2'
    assert first.log_dir != second.log_dir
    assert first.visualizer is not second.visualizer and first.logger is not second.logger


def test_classes_follow_the_head():
    cfg = Config.fromfile(ROOT / 'configs/finetune/vitb16_in1k.py')
    follow_num_classes(cfg)
    assert cfg.model.data_preprocessor.num_classes == 1000 and cfg.val_evaluator.topk == [1, 5]
    cfg.model.head.num_classes = 4
    cfg.val_evaluator = [cfg.val_evaluator, dict(type='SingleLabelMetric')]
    follow_num_classes(cfg)
    assert cfg.model.data_preprocessor.num_classes == 4
    assert cfg.val_evaluator[0].topk == cfg.test_evaluator.topk == [1]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'trian_cfg.max_epochs': 1}, 'nothing reads a key `trian_cfg`; did you mean train_cfg'),
        (
            {'data_root': 'x'},
            '`data_root` is a variable of the config file.*train_dataloader.dataset.data_root',
        ),
        ({'nonsense': 1}, 'nothing reads a key `nonsense`$'),
    ],
)
def test_options_that_nothing_reads(options, message):
    with pytest.raises(ValueError, match=message):
        load_config(str(ROOT / 'configs/mvp/vittiny_debug.py'), cfg_options=options)


@pytest.mark.parametrize(
    'option', ['load_from=x', 'resume=True', 'find_unused_parameters=True', 'tta_model.type=X']
)
def test_options_that_something_reads(option):
    arguments = argument_parser('').parse_args(['c.py', '--cfg-options', option])
    assert load_config(str(ROOT / 'configs/mvp/vittiny_debug.py'), cfg_options=arguments.cfg_options)


def test_option_without_a_value():
    with pytest.raises(ValueError, match="KEY=VALUE.*got 'model.backbone.init_cfg.checkpoint'"):
        argument_parser('').parse_args(['c.py', '--cfg-options', 'model.backbone.init_cfg.checkpoint'])


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('a.md', '# hello', 'cannot be read as a config: OSError: Only py/yml'),
        ('a.py', 'model = dict(', 'cannot be read as a config: SyntaxError'),
        ('a.py', "_base_ = 'mvpmm::mvp/vitb16_in1k.py'", 'cannot be read as a config: .*mvpmm'),
        ('a.py', 'x = 1', 'no config to run: it has no `model`'),
        ('a.json', '[1]', 'a.json'),
    ],
)
def test_files_that_are_no_configs(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(str(tmp_path / name))


def test_validations_are_logged_as_they_are():
    """MMEngine averages what its pattern matches over the last values, which is for training only."""
    pattern = load_config(str(ROOT / 'configs/mvp/vittiny_scenes.py')).log_processor.mean_pattern
    for key in ('loss', 'cosine_cls', 'cosine_masked', 'grad_norm', 'images_per_second'):
        assert re.search(pattern, key)
    for key in ('target_cosine/cosine', 'target_cosine/excess', 'target_cosine/cls', 'mIoU', 'accuracy/top1'):
        assert not re.search(pattern, key)
