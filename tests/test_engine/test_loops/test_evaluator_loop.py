import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import EVALUATORS
from torchrun_jobs import forked

from mvp_mm.engine import build_runner, load_config
from mvp_mm.engine.loops.evaluator_loop import EvaluatorLoop, use_evaluators
from mvp_mm.evaluation import Evaluator

ROOT = Path(__file__).parents[3]


@EVALUATORS.register_module()
class CountsImages(Evaluator):
    """How many images its loader has, and whether the model is only looked at."""

    default_prefix = 'count'

    def evaluate(self, model):
        images = sum(len(batch['inputs']) for batch in self.batches(model, self.dataloader))
        return dict(images=images, quiet=float(not torch.is_grad_enabled() and not model.training))


@pytest.fixture
def cfg(image_folder, tmp_path):
    """The debug pre-training on eight images, for three epochs of two iterations."""
    options = {
        'train_dataloader.dataset.data_root': str(image_folder),
        'train_dataloader.batch_size': 4,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'train_cfg.max_epochs': 3,
        'test_dataloader.dataset.data_root': str(image_folder),
        'test_dataloader.num_workers': 0,
        'test_dataloader.persistent_workers': False,
        'default_hooks.logger.interval': 1,
    }
    cfg = load_config(str(ROOT / 'configs/mvp/vittiny_debug.py'), str(tmp_path / 'run'), cfg_options=options)
    cfg.param_scheduler = []
    return cfg


def logged(runner):
    """Names and values that each validation has logged."""
    text = Path(runner.log_dir, 'vis_data', 'scalars.json').read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return [line for line in lines if 'loss' not in line]


@pytest.mark.slow
def test_intervals_and_names(cfg):
    loader = cfg.test_dataloader
    cfg.evaluators = [
        dict(type='CountsImages', dataloader=loader, interval=2),
        dict(type='CountsImages', dataloader=loader, prefix='other'),
        dict(type='TargetCosine', dataloader=loader, interval=3),
    ]
    runner = build_runner(cfg)
    runner.train()
    first, second, third = logged(runner)
    assert first['other/images'] == 8 and first['other/quiet'] == 1 and 'count/images' not in first
    assert second['count/images'] == 8 and 'target_cosine/cosine' not in second
    # all at the end: 3 is no multiple of 2
    assert third['count/images'] == 8 and -1 <= third['target_cosine/cosine'] <= 1
    tested = runner.test()
    assert tested['target_cosine/cosine'] == pytest.approx(third['target_cosine/cosine'], abs=1e-6)


@pytest.mark.slow
def test_an_evaluator_in_the_place_of_a_metric(cfg):
    """As configs of 0.1 say it."""
    cfg.val_dataloader, cfg.val_evaluator, cfg.val_cfg = cfg.test_dataloader, dict(type='TargetCosine'), {}
    runner = build_runner(cfg)
    runner.train()
    lines = logged(runner)
    assert len(lines) == 3 and all(
        line.keys() >= {'target_cosine/excess', 'target_cosine/cls'} for line in lines
    )


@pytest.mark.slow
def test_best_checkpoint_by_an_evaluator_that_is_not_always_due(cfg):
    cfg.evaluators = [
        dict(type='TargetCosine', dataloader=cfg.test_dataloader, interval=2),
        dict(type='CountsImages', dataloader=cfg.test_dataloader),
    ]
    cfg.default_hooks.checkpoint.update(save_best='target_cosine/cosine', rule='greater')
    runner = build_runner(cfg)
    runner.train()
    assert [path.name for path in Path(runner.work_dir).glob('best_*')]


def test_a_metric_beside_evaluators():
    metric, loader = dict(type='Accuracy'), dict(batch_size=2)
    cfg = Config(
        dict(
            val_evaluator=metric,
            val_dataloader=loader,
            test_evaluator=metric,
            test_dataloader=loader,
            train_cfg=dict(val_interval=6),
            evaluators=[dict(type='CountsImages', interval=4, dataloader={})],
        )
    )
    use_evaluators(cfg)
    counts, metrics = cfg.val_cfg.evaluators
    assert counts.type == 'CountsImages' and metrics.type == 'MetricEvaluator'
    assert metrics.metrics == metric and metrics.dataloader == loader
    assert cfg.train_cfg.val_interval == 2  # both 4 and 6 are met
    assert cfg.test_evaluator == metric  # which says how this config is tested
    before = cfg.to_dict()
    use_evaluators(cfg)  # of a dumped config
    assert cfg.to_dict() == before


@pytest.mark.parametrize(('length', 'interval'), [(dict(max_epochs=3), 1), (dict(max_iters=9000), 1000)])
def test_intervals_that_nobody_gives_are_mmengines(length, interval):
    cfg = Config(dict(train_cfg=length, evaluators=[dict(type='CountsImages', dataloader={})]))
    use_evaluators(cfg)
    assert cfg.train_cfg.val_interval == interval


def test_what_is_refused(cfg):
    twice = dict(type='CountsImages', dataloader=cfg.test_dataloader)
    cfg.evaluators = [twice, twice]
    cfg.test_evaluator = None
    with pytest.raises(ValueError, match='two evaluators log count/...: give each a prefix'):
        build_runner(cfg).test()
    with pytest.raises(ValueError, match='interval=0: expected 1 or more'):
        CountsImages(None, interval=0)


def numbers_of_a_process():
    torch.distributed.init_process_group('gloo')
    rank = float(torch.distributed.get_rank())
    loop = object.__new__(EvaluatorLoop)
    model = torch.nn.Identity()
    loop._runner = SimpleNamespace(call_hook=lambda *_, **__: None, model=model, _train_loop=None)
    loop.phase = 'test'
    loop.evaluators = [SimpleNamespace(prefix='own', interval=None, evaluate=lambda model: dict(rank=rank))]
    return dict(loop.run())


def test_all_processes_have_the_numbers_of_the_first():
    """Else one may save a best checkpoint, which all do together, and another not."""
    assert forked(numbers_of_a_process) == [{'own/rank': 0.0}] * 2
