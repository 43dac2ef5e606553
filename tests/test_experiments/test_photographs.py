"""The experiment on photographs: its plan and table, and all of it on shards of a few pictures."""

import copy
import json
import random

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import DATASETS, MODELS
from PIL import Image

import mvp_mm
from experiments import linear_probe
from experiments.jobs import CONFIGS, run_jobs
from experiments.photographs import ship, work
from experiments.photographs.plan import (
    BUDGETS,
    CAPTIONED,
    FINETUNE,
    MAIN,
    METHODS,
    METHODS_OF,
    SEGMENT,
    Budget,
    Job,
    plan,
)
from experiments.photographs.prepare import PER_CLASS, write_tiny_imagenet
from experiments.photographs.report import claims, collect, legend, table
from experiments.recipes import recipe_options, segmentation_length
from mvp_mm.datasets import ImageTextShards
from mvp_mm.datasets.sources.captioned_source import read_classes
from mvp_mm.text.templates import filled
from mvp_mm.text.tokenize import words_of

from ..conftest import SHARED

SPLIT = Config.fromfile(CONFIGS / '_base_/datasets/tiny_imagenet.py')
TINY = SHARED / 'data/tiny_imagenet'
VOCABULARY = json.loads((CONFIGS / 'teachers/clip_vittiny_photographs.json').read_text())['text_cfg']
NAMES = [f'{word}, photo of {word}' for word in VOCABULARY['tokenizer_kwargs']['words'][:200]]


def test_the_rule_that_holds_classes_out():
    assert SPLIT.held_out == sorted(random.Random(0).sample(range(200), 40))
    assert sorted(SPLIT.seen + SPLIT.held_out) == list(range(200))


@pytest.mark.parametrize('length', list(BUDGETS))
def test_plan(length):
    budget = BUDGETS[length]
    jobs = plan(list(METHODS), budget.seeds, budget)
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    for number, job in enumerate(jobs):
        assert set(job.needs) <= set(names[:number])
    with pytest.raises(ValueError, match='unknown method magic; there are scratch, pixel'):
        plan(['magic'], [0], budget)


def test_every_student_has_equal_tuning_and_a_teacher_of_its_seed():
    budget = BUDGETS['evening']
    jobs = {job.name: job for job in plan(MAIN, budget.seeds, budget)}
    for name in MAIN:
        trials = [job for job in jobs.values() if job.method == name and job.name.startswith('tune-')]
        assert len(trials) == 6  # two recipes of fine-tuning, of segmentation, and of that frozen
        assert {job.seed for job in trials} == {0}
    assert jobs['train-clip-csa-s2'].needs == ('teach-clip-s2',)
    assert jobs['train-rils-s1'].needs == jobs['train-pixel-s1'].needs == ()
    assert 'train-scratch-s0' not in jobs and jobs['measure-scratch-s0'].needs == ()
    needs = jobs['segment-dino-frozen-s1-n50'].needs
    assert needs[0] == 'train-dino-s1' and all(
        need.startswith('tune-segment-dino-frozen-') for need in needs[1:]
    )
    cold = plan(METHODS_OF['2h'], (0,), BUDGETS['2h'])
    assert [job.name for job in cold] == [f'train-{name}-s0' for name in CAPTIONED]


def test_table_of_the_cold_start(tmp_path):
    for seed, value in ((0, 30.0), (1, 34.0)):
        keys = ('seen/top1', 'seen/top5', 'held_out/top1', 'held_out/top5', 'knn_held_out/top1_k20')
        figures = dict.fromkeys(keys, value) | dict(steps=10000)
        (tmp_path / f'train-rils-clip-s{seed}.json').write_text(json.dumps(figures))
    figures = collect(plan(CAPTIONED, (0, 1), BUDGETS['2h']), tmp_path)
    lines = table(figures).splitlines()
    assert lines[0] == '| | names, seen | seen, top-5 | names, held out | held out, top-5 | k-NN, patches |'
    assert lines[2] == '| chance | 0.6 | 3.1 | 2.5 | 12.5 | 2.5 |'
    assert lines[3:] == ['| rils-clip ' + '| 32.0 ± 2.8 ' * 5 + '|']
    assert legend(figures) == "- `rils-clip`: CLIP alone, RILS's steps"
    assert claims(figures) == ''


def test_table_and_claims_of_a_whole_experiment(tmp_path):
    jobs = plan(MAIN, (0, 1), BUDGETS['evening'])
    gains = dict(zip(MAIN, range(0, 70, 10), strict=True))
    for job in jobs:
        value = gains.get(job.method, 0) + job.seed
        found = dict(top1=value, knn=value, linear=value, miou=value / 2, constant=2.5, rate=1, decay=1)
        if job.method == 'clip' and job.kind == 'train':
            found |= {'seen/top1': 20, 'seen/teacher_top1': 40}
        (tmp_path / f'{job.name}.json').write_text(json.dumps(found))
    (tmp_path / 'segment-clip-csa-s1-n50.json').write_text(json.dumps(dict(miou=1.0, constant=2.5)))
    figures = collect(jobs, tmp_path)
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in table(figures).splitlines()]
    head, chance, teacher = rows[0], rows[2], rows[-2]
    assert chance[0] == 'chance' and teacher[0] == 'teacher clip' and rows[-1][0] == 'teacher dino'
    at = {name: number for number, name in enumerate(head)}
    assert chance[at['10 labels a class']] == chance[at['linear probe']] == '2.5'
    assert chance[at['CamVid 367 frozen']] == '2.5' and teacher[at['names, seen']] == '40.0 ± 0.0'
    (clip,) = (row for row in rows if row[0] == 'clip')
    assert clip[at['CamVid 50']] == '15.2 ± 0.4' and clip[at['names, seen']] == '20.0 ± 0.0'
    lines = claims(figures).splitlines()
    assert len(lines) == 5 and lines[0].startswith(
        '- CLIP as the teacher above the vision-only one: CamVid 50'
    )
    assert 'CamVid 50 5.0 ± 0.0 (2 of 2 seeds); CamVid 50 frozen' in lines[0]
    assert 'CamVid 50 -4.8 ± 13.8 (1 of 2 seeds)' in lines[4]


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
    names = [f'{wnid}\t{name}' for wnid, name in zip(ids, NAMES, strict=True)]
    (archive / 'words.txt').write_text('\n'.join([*names, 'n99999999\tnone of these']))
    write_tiny_imagenet(archive, tmp_path / 'data', progress=False)
    return tmp_path / 'data'


def test_the_archive_as_shards(shards, tmp_path, monkeypatch):
    source = ImageTextShards(str(shards))
    assert len(source) == 9 * 6 and sorted(path.name for path in shards.glob('*.tar')) == [
        'train-0000.tar',
        'val-0000.tar',
    ]
    for index in range(len(source)):
        _, _, texts, label = source.record(index)
        assert texts == [NAMES[label]]
    assert read_classes(str(shards / 'classes.txt'))[7] == NAMES[7]
    with pytest.raises(FileNotFoundError, match=r'wnids.txt: unpack tiny-imagenet-200.zip'):
        write_tiny_imagenet(shards, tmp_path / 'more')
    monkeypatch.setitem(PER_CLASS, 'train', 4)
    write_tiny_imagenet(tmp_path / 'archive', tmp_path / 'fewer', progress=False)
    assert len(ImageTextShards(str(tmp_path / 'fewer'))) == 9 * 4


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
    budget = Budget((0,), 1)
    (job,) = plan(['rils'], (0,), budget)
    out = tmp_path / 'out'
    figures = work.do(job, budget, out, str(shards), options=options)
    assert figures['steps'] == 18 // 4  # photographs of the three seen classes only
    assert figures['held_out/top1'] * 12 / 100 == pytest.approx(round(figures['held_out/top1'] * 12 / 100))
    assert 0 <= figures['seen/top1'] <= figures['seen/top5'] <= 100
    assert 0 <= figures['knn_held_out/top1_k20'] <= 100
    last = out / figures['checkpoint']
    stamp = last.stat().st_mtime_ns
    again = work.do(job, budget, out, str(shards), options=options)  # killed before its figures were kept
    assert last.stat().st_mtime_ns == stamp
    assert dict(again, seconds=None) == dict(figures, seconds=None)


@pytest.fixture
def streets(tmp_path):
    """Random street scenes in CamVid's layout, as many as the experiment counts on."""
    generator = np.random.default_rng(0)
    for part, count in dict(train=367, val=3).items():
        for kind in ('images', 'annotations'):
            (tmp_path / 'camvid' / kind / part).mkdir(parents=True)
        for number in range(count):
            name = f'{number:03d}'
            image = Image.fromarray(generator.integers(0, 256, (48, 64, 3), dtype=np.uint8))
            image.save(tmp_path / f'camvid/images/{part}/{name}.jpg')
            labels = generator.integers(0, 11, (48, 64), dtype=np.uint8)
            Image.fromarray(labels).save(tmp_path / f'camvid/annotations/{part}/{name}.png')
    return tmp_path / 'camvid'


@pytest.mark.slow
def test_a_whole_table(shards, streets, tmp_path, monkeypatch):
    monkeypatch.setattr(work, 'PROBE_SHOTS', 2)
    monkeypatch.setattr(work, 'TUNING_SCENES', 364)  # which leaves three to compare recipes on
    monkeypatch.setattr(linear_probe, 'NEIGHBOURS', 5)
    budget = Budget((0,), 1, 1, (2,), 1, (3,), 2)
    everywhere = {'default_hooks.logger.interval': 1, 'train_dataloader.num_workers': 0}
    everywhere |= {'train_dataloader.persistent_workers': False}
    figures = {}
    pytest.importorskip('lightly')
    jobs = plan(['clip'], (0,), budget)
    kinds = ('teach', 'train', 'measure-teacher')
    jobs += [job for job in plan(['dino'], (0,), budget) if job.kind in kinds]
    for job in jobs:
        batch = 2 if job.kind == 'finetune' else 4
        options = everywhere | {
            'train_dataloader.batch_size': batch,
            'auto_scale_lr.base_batch_size': batch,
        }
        if job.kind != 'segment':
            options['train_dataloader.sampler.total_batch'] = batch
        if job.kind == 'train':
            count = 3 if job.method == 'clip' else 1
            options |= {f'evaluators.{number}.dataloader.num_workers': 0 for number in range(count)}
        figures[job.name] = work.do(job, budget, tmp_path, str(shards), str(streets), options)
        (tmp_path / f'{job.name}.json').write_text(json.dumps(figures[job.name]))
    trained = figures['train-clip-s0']
    assert trained['seen/teacher_top1'] >= 0 and 'target_cosine/cosine' in trained
    assert figures['teach-clip-s0']['steps'] == trained['steps'] == 18 // 4
    for job in jobs:
        if job.kind.startswith('measure'):
            assert 0 <= figures[job.name]['linear'] <= 100 and 0 <= figures[job.name]['knn'] <= 100
    assert figures['segment-clip-s0-n3']['miou'] < 30 and figures['segment-clip-s0-n3']['constant'] < 1.5
    best = max(
        (f for n, f in figures.items() if n.startswith('tune-finetune-clip-')), key=lambda f: f['top1']
    )
    assert figures['finetune-clip-s0-n2']['rate'] == best['rate']
    assert '| teacher clip |' in table(collect(jobs, tmp_path))


@pytest.mark.slow
def test_a_job_as_a_process(tmp_path):
    job = Job('train-rils-s0', 'train', 'rils', 0)
    with pytest.raises(RuntimeError, match=r'train-rils-s0 ended with status 1(?s:.*)nowhere'):
        run_jobs([job], 'experiments.photographs.work', dict(length='2h'), tmp_path, 1, '/nowhere')


@pytest.mark.skipif(not TINY.is_dir(), reason='Tiny-ImageNet is not beside the project')
def test_the_vocabulary_is_that_of_the_names_and_sentences():
    names = read_classes(str(TINY / 'classes.txt'))

    def words(numbers):
        texts = [filled('simple', one) for number in numbers for one in names[number].split(',')]
        return {word for sentences in texts for sentence in sentences for word in words_of(sentence)}

    options = VOCABULARY['tokenizer_kwargs']
    assert options['words'] == sorted(words(range(200)))
    assert options['unseen'] == sorted(words(range(200)) - words(SPLIT.seen))


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.skipif(not TINY.is_dir(), reason='Tiny-ImageNet is not beside the project')
def test_the_shipped_weights_name_photographs(tmp_path):
    """Measured on all 4,000: 22.6 % by the teacher, 8.8 % by the student; chance is 0.6."""
    loader = dict(SPLIT.zero_shot_seen.dataloader.dataset, data_root=str(TINY), _scope_='mvp_mm')
    photographs = DATASETS.build(
        dict(loader, classes=str(TINY / 'classes.txt'), index_dir=str(tmp_path), split='val')
    )
    order = np.random.default_rng(0).permutation(len(photographs))[:400]
    samples = [photographs[int(number)] for number in order]
    images = [sample['inputs'].permute(1, 2, 0).numpy() for sample in samples]
    labels = torch.tensor([SPLIT.seen.index(int(sample['gt_label'])) for sample in samples])
    names = [read_classes(str(TINY / 'classes.txt'))[number] for number in SPLIT.seen]
    teacher = MODELS.build(Config.fromfile(CONFIGS / 'mvp/vittiny_photographs.py').model.target_generator)
    student = mvp_mm.get_model('mvp_vittiny_photographs', pretrained=True)
    for model, percent in ((teacher, 16), (student, 5)):
        found = model.zero_shot(images, names, templates='simple')
        assert 100 * (found.argmax(1).cpu() == labels).double().mean() > percent, model


def test_the_card_tells_every_figure(tmp_path):
    (tmp_path / 'experiment.json').write_text('{"length": "evening"}')
    for job in plan(MAIN, (0,), BUDGETS['evening']):
        (tmp_path / f'{job.name}.json').write_text('{"top1": 12.345, "checkpoint": "x"}')
    told = ship.card(tmp_path, dict(length='evening'), 'clip', 0, 'abc', {'a.safetensors': 'f' * 64})
    assert f'| `a.safetensors` | `{"f" * 64}` |' in told and 'commit `abc`' in told
    assert '| `teach-clip-s0` | top1 12.35 |' in told or '| `teach-clip-s0` | top1 12.34 |' in told
    assert '`segment-clip-frozen-s0-n367`' in told and 'dino' not in told and 'checkpoint' not in told
    with pytest.raises(ValueError, match='rils is not taught by the CLIP'):
        ship.ship(tmp_path, 'rils', 0, 'abc')


def test_the_configs_are_the_recipes_that_their_figures_are_of():
    budget = BUDGETS['evening']
    streets = Config.fromfile(CONFIGS / 'upernet/vittiny_photographs_camvid.py')
    chosen = recipe_options(SEGMENT[0]) | segmentation_length(budget.segment_steps)
    del chosen['default_hooks.checkpoint.interval']
    finetune = Config.fromfile(CONFIGS / 'finetune/vittiny_photographs.py')
    epochs = round(budget.finetune_steps / (len(SPLIT.held_out) * budget.labels[1] // 64))
    ends = {'train_cfg.max_epochs': epochs, 'param_scheduler.0.end': epochs // 10}
    for cfg, options in ((streets, chosen), (finetune, recipe_options(FINETUNE[0]) | ends)):
        merged = copy.deepcopy(cfg)
        merged.merge_from_dict(options)
        assert merged.to_dict() == cfg.to_dict()
