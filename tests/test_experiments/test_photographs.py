"""The experiment on photographs: its plan and table, and all of it on shards of a few pictures."""

import json
import random

import numpy as np
import pytest
from mmengine.config import Config
from mmpretrain.registry import DATASETS
from PIL import Image

from experiments.jobs import CONFIGS, run_jobs
from experiments.photographs import work
from experiments.photographs.plan import BUDGETS, METHODS, Budget, Job, plan
from experiments.photographs.prepare import write_tiny_imagenet
from experiments.photographs.report import table
from mvp_mm.datasets import ImageTextShards
from mvp_mm.datasets.sources.captioned_source import read_classes

from ..conftest import SHARED

SPLIT = Config.fromfile(CONFIGS / '_base_/datasets/tiny_imagenet.py')
TINY = SHARED / 'data/tiny_imagenet'


def test_the_rule_that_holds_classes_out():
    assert SPLIT.held_out == sorted(random.Random(0).sample(range(200), 40))
    assert sorted(SPLIT.seen + SPLIT.held_out) == list(range(200))


@pytest.mark.parametrize('length', list(BUDGETS))
def test_plan(length):
    jobs = plan(list(METHODS), BUDGETS[length].seeds)
    assert len({job.name for job in jobs}) == len(jobs) == len(METHODS) * len(BUDGETS[length].seeds)
    with pytest.raises(ValueError, match='unknown method magic; there are rils, clip'):
        plan(['magic'], [0])


def test_table(tmp_path):
    for seed, value in ((0, 30.0), (1, 34.0)):
        keys = ('seen/top1', 'seen/top5', 'held_out/top1', 'held_out/top5', 'knn_held_out/top1_k20')
        figures = dict.fromkeys(keys, value) | dict(steps=10000)
        (tmp_path / f'train-clip-s{seed}.json').write_text(json.dumps(figures))
    lines = table(plan(['rils', 'clip'], (0, 1)), tmp_path).splitlines()
    assert lines[0] == '| | steps | seen, top-1 | top-5 | held out, top-1 | top-5 | held out, k-NN |'
    assert lines[2] == '| chance |  | 0.6 | 3.1 | 2.5 | 12.5 | 2.5 |'
    assert lines[3:] == ["| CLIP alone, RILS's steps | 10,000 " + '| 32.0 ± 2.8 ' * 5 + '|']


@pytest.fixture
def shards(tmp_path):
    """Random pictures of three seen and of six held-out classes, from an archive like Tiny-ImageNet's."""
    generator = np.random.default_rng(0)
    archive, ids = tmp_path / 'archive', [f'n{number:08d}' for number in range(200)]
    annotations = []
    for wnid in ids:
        (archive / 'train' / wnid / 'images').mkdir(parents=True)
    (archive / 'val/images').mkdir(parents=True)
    for label in [*SPLIT.seen[:3], *SPLIT.held_out[:6]]:
        for number in range(8):
            pixels = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            name = f'{label}_{number}.JPEG'
            folder = archive / ('val/images' if number < 2 else f'train/{ids[label]}/images')
            Image.fromarray(pixels).save(folder / name)
            annotations += [f'{name}\t{ids[label]}\t0\t0\t62\t62'] if number < 2 else []
    (archive / 'val/val_annotations.txt').write_text('\n'.join(annotations))
    (archive / 'wnids.txt').write_text('\n'.join(reversed(ids)))
    names = [f'{wnid}\tthing {number}, object {number}' for number, wnid in enumerate(ids)]
    (archive / 'words.txt').write_text('\n'.join([*names, 'n99999999\tnone of these']))
    write_tiny_imagenet(archive, tmp_path / 'data', progress=False)
    return tmp_path / 'data'


def test_the_archive_as_shards(shards, tmp_path):
    source = ImageTextShards(str(shards))
    assert len(source) == 9 * 6 and sorted(path.name for path in shards.glob('*.tar')) == [
        'train-0000.tar',
        'val-0000.tar',
    ]
    for index in range(len(source)):
        _, _, texts, label = source.record(index)
        assert texts == [f'thing {label}, object {label}']
    assert read_classes(str(shards / 'classes.txt'))[7] == 'thing 7, object 7'
    with pytest.raises(FileNotFoundError, match=r'wnids.txt: unpack tiny-imagenet-200.zip'):
        write_tiny_imagenet(shards, tmp_path / 'more')


@pytest.mark.slow
def test_a_whole_job(shards, tmp_path):
    options = {
        'train_dataloader.batch_size': 4,
        'train_dataloader.sampler.total_batch': 4,
        'auto_scale_lr.base_batch_size': 4,
        'default_hooks.logger.interval': 1,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
    }
    options |= {f'evaluators.{number}.dataloader.num_workers': 0 for number in range(3)}
    options['evaluators.2.train_dataloader.num_workers'] = 0
    (job,) = plan(['rils'], (0,))
    out = tmp_path / 'out'
    figures = work.do(job, Budget((0,), 1), out, str(shards), options)
    assert figures['steps'] == 18 // 4  # photographs of the three seen classes only
    assert figures['held_out/top1'] * 12 / 100 == pytest.approx(round(figures['held_out/top1'] * 12 / 100))
    assert 0 <= figures['seen/top1'] <= figures['seen/top5'] <= 100
    assert 0 <= figures['knn_held_out/top1_k20'] <= 100
    seconds = figures.pop('seconds')
    again = work.do(job, Budget((0,), 1), out, str(shards), options)  # killed before its figures were kept
    assert again.pop('seconds') < 10 * seconds and again == figures


@pytest.mark.slow
def test_a_job_as_a_process(tmp_path):
    job = Job('train-rils-s0', 'train', 'rils', 0)
    with pytest.raises(RuntimeError, match=r'train-rils-s0 ended with status 1(?s:.*)nowhere'):
        run_jobs([job], 'experiments.photographs.work', dict(length='2h'), tmp_path, 1, '/nowhere')


@pytest.mark.skipif(not TINY.is_dir(), reason='Tiny-ImageNet is not beside the project')
def test_photographs_of_seen_classes_only(tmp_path):
    cfg = Config.fromfile(CONFIGS / 'rils/vittiny_photographs.py')
    cfg.merge_from_dict(work.data_options('rils/vittiny_photographs.py', str(TINY)))
    loaders = {one.prefix: one.dataloader for one in cfg.evaluators}
    loaders |= dict(train=cfg.train_dataloader, gallery=cfg.evaluators[2].train_dataloader)
    counts = dict(train=32000, seen=4000, held_out=1000, knn_held_out=1000, gallery=8000)
    sources = {}
    for name, count in counts.items():
        dataset = dict(loaders[name].dataset, _scope_='mvp_mm', index_dir=str(tmp_path))
        sources[name] = DATASETS.build(dataset)
        assert abs(len(sources[name]) - count) < 0.1 * count, name
    texts = [line.partition('\t')[2] for line in (TINY / 'classes.txt').read_text().splitlines()]
    words = {texts[number] for number in SPLIT.held_out}
    for index in range(0, len(sources['train']), 500):
        _, _, found, label = sources['train'].record(index)
        assert label in SPLIT.seen and found == [texts[label]] and found[0] not in words
    assert sources['held_out'].metainfo['classes'] == tuple(texts)
