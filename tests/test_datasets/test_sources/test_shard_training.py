"""MVP trained from shards: only ``dataset.type`` and ``data_root`` change, and a restart loses nothing."""

import random
from collections import Counter
from pathlib import Path

import pytest
from exact_runs import Killed, Watch
from faults.kills import kill_and_resume, run_baseline
from faults.tiny_run import tiny_config, write_photographs

from mvp_mm.datasets import write_shards
from mvp_mm.engine import MVPRunner, build_runner


class Named(Watch):
    """Notes the samples too."""

    def __init__(self, kill_after=None):
        super().__init__(kill_after)
        self.names = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.names += [Path(sample.img_path).name for sample in data_batch['data_samples']]
        super().after_train_iter(runner, batch_idx, data_batch, outputs)


@pytest.fixture(autouse=True)
def light(monkeypatch):
    monkeypatch.setattr(MVPRunner, '_log_env', lambda self, env_cfg: None)


@pytest.fixture
def folders(tmp_path):
    write_photographs(tmp_path / 'images', 24)
    write_shards(tmp_path / 'images', tmp_path / 'shards', per_shard=5, shuffle=False, progress=False)
    return tmp_path


def config(folders, source, epochs=1, workers=0, **sampler):
    cfg = tiny_config(folders / 'images', epochs=epochs)
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = cfg.test_dataloader = None
    cfg.test_evaluator = cfg.test_cfg = None
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook['type'] == 'UnreadableImagesHook']
    cfg.train_dataloader.num_workers = workers
    cfg.train_dataloader.sampler.update(sampler)
    if source == 'shards':
        cfg.train_dataloader.dataset.type = 'ImageTextShards'
        cfg.train_dataloader.dataset.data_root = str(folders / 'shards')
    cfg.default_hooks.checkpoint.interval = 1
    cfg.randomness = dict(seed=3)
    cfg.launcher = 'none'
    return cfg


def train(cfg, work_dir, kill_after=None, resume=False):
    watch = Named(kill_after)
    cfg.work_dir, cfg.resume = str(work_dir), resume
    runner = build_runner(cfg)
    runner.register_hook(watch)
    if kill_after is None:
        runner.train()
    else:
        with pytest.raises(Killed):
            runner.train()
    return watch


def test_only_the_type_changes(folders):
    from_folder = train(config(folders, 'folder'), folders / 'a')
    from_shards = train(config(folders, 'shards'), folders / 'b')
    assert len(from_folder.losses) == 2  # 24 images, of which a total batch has 16
    assert from_shards.losses == from_folder.losses
    assert [name.endswith('.jpg') for name in from_shards.names] == [True] * 16


@pytest.mark.parametrize(('kill_after', 'workers'), [(1, 0), (3, 2), (4, 0)])
def test_restart(folders, kill_after, workers):
    options = dict(epochs=2, type='ShardSampler', window=2, total_batch=8)
    straight = train(config(folders, 'shards', **options), folders / 'straight')
    assert len(straight.losses) == 6
    for epoch in range(2):
        assert Counter(straight.names[24 * epoch : 24 * (epoch + 1)]) == Counter(
            f'{n:09d}.jpg' for n in range(24)
        )
    cut = train(config(folders, 'shards', workers=workers, **options), folders / 'cut', kill_after)
    rest = train(config(folders, 'shards', workers=workers, **options), folders / 'cut', resume=True)
    done = len(straight.losses) - len(rest.losses)
    assert done in (kill_after, kill_after - 1)  # the step of a half-accumulated one is made again
    assert cut.names[: 8 * done] + rest.names == straight.names
    assert rest.losses == straight.losses[done:]


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    """SIGKILL, and the same command again: bit for bit the weights of a run that was never killed."""

    def from_shards(cfg):
        images = Path(cfg.train_dataloader.dataset.data_root)
        write_shards(images, tmp_path / 'shards', per_shard=9, progress=False)
        cfg.train_dataloader.dataset.update(type='ImageTextShards', data_root=str(tmp_path / 'shards'))
        cfg.train_dataloader.sampler.update(type='ShardSampler', window=3)

    whole = run_baseline(tmp_path, epochs=2, adapt=from_shards)
    draw = random.Random(0)
    for number, phase in enumerate(('step', 'save')):
        assert kill_and_resume(whole, tmp_path / f'killed_{number}', phase, draw).same
