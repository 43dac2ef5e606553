import logging
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS

from mvp_mm.engine import build_runner, load_config, resume_last
from mvp_mm.engine.build_runner import follow_num_classes

CONFIGS = Path(__file__).parents[2] / 'configs'


def test_nothing_to_resume(image_folder, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(
        MMLogger, 'callHandlers', lambda self, record: lines.append((record.levelno, record.getMessage()))
    )
    cfg = load_config(str(CONFIGS / 'mvp/vittiny_debug.py'), str(tmp_path / 'run'))
    cfg.train_dataloader.dataset.data_root = str(image_folder)
    cfg.model.backbone.arch.num_layers = 1
    cfg.resume = True
    runner = build_runner(cfg)
    runner.load_or_resume()
    message = f'There is no checkpoint to resume in {runner.work_dir}: training starts at the beginning'
    assert (logging.WARNING, message) in lines
    assert not any('Auto resumed' in line for _, line in lines)


def test_resume_last(tmp_path):
    """A first start takes load_from, every restart the last checkpoint of the work dir."""
    cfg = Config(dict(work_dir=str(tmp_path), load_from='student.pth'))
    resume_last(cfg)
    assert (cfg.resume, cfg.load_from) == (False, 'student.pth')
    torch.save(dict(meta={}), tmp_path / 'epoch_1.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    resume_last(cfg)
    assert (cfg.resume, cfg.load_from) == (True, None)
    nothing = Config(dict(work_dir=str(tmp_path / 'new')))
    resume_last(nothing)
    assert nothing.resume  # so that build_runner tells of it


def test_classes_follow_the_head():
    cfg = Config.fromfile(CONFIGS / 'finetune/vitb16_in1k.py')
    follow_num_classes(cfg)
    assert cfg.model.data_preprocessor.num_classes == 1000 and cfg.val_evaluator.topk == [1, 5]
    cfg.model.head.num_classes = 4
    cfg.val_evaluator = [cfg.val_evaluator, dict(type='SingleLabelMetric')]
    follow_num_classes(cfg)
    assert cfg.model.data_preprocessor.num_classes == 4
    assert cfg.val_evaluator[0].topk == cfg.test_evaluator.topk == [1]


def test_a_runner_of_another_type_runs_evaluators_too(monkeypatch, tmp_path):
    """FSDP's runner is MMEngine's, which knows metrics only."""
    cfg = load_config(str(CONFIGS / 'mvp/vith16_in1k_fsdp.py'), str(tmp_path))
    monkeypatch.setattr(RUNNERS, 'build', lambda cfg: cfg)
    module = sys.modules['mvp_mm.engine.build_runner']  # the name is the function's, too
    monkeypatch.setattr(module, 'require_device_for', lambda cfg: None)
    monkeypatch.setattr(module, 'begin_process_group', lambda *arguments: None)
    built = build_runner(cfg)
    assert built.test_cfg.type == 'EvaluatorLoop' and built.test_cfg.phase == 'test'
    (evaluator,) = built.test_cfg.evaluators
    assert evaluator.type == 'TargetCosine' and evaluator.dataloader.dataset.type == 'UnlabelledImages'


@pytest.mark.parametrize('name', ['rils/vittiny_scenes', 'teachers/clip_vittiny_scenes'])
def test_a_coupled_batch_is_not_sharded(name, tmp_path):
    cfg = load_config(str(CONFIGS / f'{name}.py'), str(tmp_path))
    sharded = Config.fromfile(CONFIGS / 'mvp/vith16_in1k_fsdp.py')
    cfg.update(runner_type=sharded.runner_type, strategy=sharded.strategy)
    with pytest.raises(ValueError, match='is not trained by FSDPStrategy: .*Leave out runner_type'):
        build_runner(cfg)
