import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from PIL import Image

from mvp_mm.engine import build_runner, load_config, plan_total_batch

CONFIGS = Path(__file__).parents[3] / 'configs' / 'mvp'


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
    assert plan.message.startswith(f'Total batch: {processes} {word} x {batch} images ')
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


@pytest.fixture
def folder(tmp_path):
    """Sixteen images."""
    rng = np.random.default_rng(0)
    (tmp_path / 'sixteen').mkdir()
    for number in range(16):
        pixels = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((80, 80)).save(tmp_path / 'sixteen' / f'{number:02d}.png')
    return tmp_path / 'sixteen'


@pytest.fixture
def train(tmp_path):
    """``train(root, **options)``: train the debug config, and give its runner and the log."""

    def run(root, auto_batch=True, total=8, base_lr=1e-3, **options):
        cfg = load_config(
            str(CONFIGS / 'vittiny_debug.py'),
            work_dir=str(tmp_path / 'work'),
            cfg_options={
                'train_dataloader.dataset.data_root': str(root),
                'train_dataloader.num_workers': 0,
                'train_dataloader.sampler.total_batch': total,
                'auto_scale_lr.base_batch_size': total,
                'model.backbone.arch.num_layers': 1,
                'model.backbone.drop_path_rate': 0.0,
                'optim_wrapper.optimizer': dict(_delete_=True, type='SGD', lr=base_lr, weight_decay=0.05),
                'optim_wrapper.precision': 'float32',
                'train_cfg.max_epochs': 1,
                'default_hooks.checkpoint': None,
                'visualizer.vis_backends': [],
                **options,
            },
        )
        cfg.param_scheduler = None
        runner = build_runner(cfg, auto_batch=auto_batch)
        lines = []
        handler = logging.Handler(logging.INFO)
        handler.emit = lambda record: lines.append((record.levelname, record.getMessage()))
        MMLogger.get_current_instance().addHandler(handler)
        runner.train()
        return runner, [line for line in lines if line[1].startswith('Total batch')]

    return run


def learning_rates(runner):
    return sorted({group['lr'] for group in runner.optim_wrapper.optimizer.param_groups})


def test_runner_accumulates(folder, train):
    runner, ((level, message),) = train(folder, **{'train_dataloader.batch_size': 2})
    assert runner.optim_wrapper._accumulative_counts == 4
    assert learning_rates(runner) == [1e-3]
    assert runner.iter == 8
    assert level == 'INFO'
    assert message == 'Total batch: 1 process x 2 images x 4 accumulated iterations = 8, as the recipe says.'


def test_runner_scales_the_learning_rate(folder, train):
    runner, ((level, message),) = train(folder, **{'train_dataloader.batch_size': 3})
    assert runner.optim_wrapper._accumulative_counts == 1
    assert learning_rates(runner) == pytest.approx([1e-3 * 3 / 8])
    assert runner.optim_wrapper.get_lr()['base_lr'] == [pytest.approx(1e-3 * 3 / 8)]
    assert runner.iter == 5
    assert level == 'WARNING'
    assert '= 3 instead of the 8 of the recipe (8 is no multiple of that)' in message


def test_runner_with_fewer_images_than_a_total_batch(image_folder, train):
    runner, ((level, message),) = train(image_folder, total=32, **{'train_dataloader.batch_size': 4})
    assert runner.optim_wrapper._accumulative_counts == 1
    assert learning_rates(runner) == pytest.approx([1e-3 / 8])
    assert runner.iter == 2
    assert level == 'WARNING'
    assert 'only 2 iterations, less than 32 images' in message


def test_config_as_it_stands(folder, train):
    options = {'train_dataloader.batch_size': 2, 'optim_wrapper.accumulative_counts': 2}
    runner, messages = train(folder, auto_batch=False, **options)
    assert runner.optim_wrapper._accumulative_counts == 2
    assert learning_rates(runner) == [1e-3]
    assert messages == []


def test_mmengines_own_rule_on_request(folder, train):
    options = {'train_dataloader.batch_size': 2, 'auto_scale_lr.enable': True}
    runner, messages = train(folder, **options)
    assert runner.optim_wrapper._accumulative_counts == 1
    assert learning_rates(runner) == pytest.approx([1e-3 / 4])
    assert messages == []


def test_too_few_images_for_one_batch(image_folder, train):
    message = (
        '8 images do not fill one iteration of 1 process x 16 images .*: lower train_dataloader.batch_size'
    )
    with pytest.raises(ValueError, match=message):
        train(image_folder, **{'train_dataloader.batch_size': 16})


def test_accumulated_step_equals_one_step_of_the_whole_batch(folder, train):
    """Two steps of 8 images, as 1 x 8 and as 4 x 2; gradients are clipped in both."""
    weights, norms = [], []
    for batch in (8, 2):
        options = {'train_dataloader.batch_size': batch, 'optim_wrapper.clip_grad.max_norm': 0.05}
        runner, _ = train(folder, base_lr=1.0, **options)
        assert runner.iter == 16 // batch
        weights.append({name: value.clone() for name, value in runner.model.state_dict().items()})
        norms.append(runner.message_hub.get_scalar('train/grad_norm').data[0])
    assert len(norms[0]) == len(norms[1]) == 2
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert min(norms[0]) > 0.05
    whole, accumulated = weights
    for name, value in whole.items():
        torch.testing.assert_close(accumulated[name], value, rtol=0, atol=1e-5)

    untrained, _ = train(folder, base_lr=0.0, **{'train_dataloader.batch_size': 8})
    moved = max((value - whole[name]).abs().max() for name, value in untrained.model.state_dict().items())
    assert moved > 1e-3  # so that equality above says something
