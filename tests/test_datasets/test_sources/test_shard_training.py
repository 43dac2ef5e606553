"""MVP trained from shards: only ``dataset.type`` and ``data_root`` change, and a restart loses nothing."""

import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from exact_runs import Killed, Watch
from faults.kills import kill_and_resume, run_baseline
from faults.shard_run import each_once, over_shards
from faults.tiny_run import tiny_config, write_photographs
from mmengine.dataset import default_collate
from mmpretrain.registry import DATASETS, MODELS

from mvp_mm.datasets import SampleIndex, UnlabelledImages, write_shards
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
    with pytest.raises(FileNotFoundError, match='no image found below .*type=ImageTextShards'):
        len(UnlabelledImages(str(folders / 'shards')))


@pytest.mark.slow
def test_every_source_feeds_mvp(folders):
    """Of `train_dataloader.dataset`, type and data_root change, and what tells a list of its own."""
    images = sorted((folders / 'images').iterdir())
    rows = ''.join(f'{path.name}\t"a {number} inch" sign\n' for number, path in enumerate(images))
    (folders / 'list.tsv').write_text(f'image\tcaption\n{rows}')
    for number, path in enumerate(images):
        target = folders / 'labelled' / 'train' / f'class{number % 2}' / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        target.with_suffix('.txt').write_text(f'photograph {number}')
    shards, labelled = str(folders / 'shards'), str(folders / 'labelled')
    parts = [
        dict(type='ImageTextShards', data_root=shards),
        dict(type='UnlabelledImages', data_root=labelled),
    ]
    sources = [
        dict(type='UnlabelledImages', data_root=str(folders / 'images')),
        dict(type='LabelledImages', data_root=labelled),
        dict(type='ImageTextShards', data_root=shards),
        dict(type='ImageTextList', data_root=labelled),
        dict(type='ImageTextList', data_root=str(folders / 'images'), ann_file=str(folders / 'list.tsv')),
        dict(type='SourceMixture', data_root=None, split=None, sources=parts, weights=[1, 2]),
    ]
    cfg = config(folders, 'folder')
    model = MODELS.build(cfg.model)
    for source in sources:
        found = {**cfg.train_dataloader.dataset, **source}
        dataset = DATASETS.build({key: value for key, value in found.items() if value is not None})
        assert len(dataset) in (24, 48)
        batch = default_collate([dataset[SampleIndex(number, 0, 0)] for number in range(4)])
        data = model.data_preprocessor(batch, True)
        losses = model(**data, mode='loss')
        assert data['inputs'].shape == (4, 3, 64, 64) and all(torch.isfinite(x) for x in losses.values()), (
            source
        )
        assert data['inputs'].std() > 0.1


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
    whole = run_baseline(tmp_path, epochs=2, adapt=over_shards(tmp_path))
    assert each_once(whole, epochs=2, samples=64)
    draw = random.Random(0)
    for number, phase in enumerate(('step', 'save')):
        assert kill_and_resume(whole, tmp_path / f'killed_{number}', phase, draw).same
