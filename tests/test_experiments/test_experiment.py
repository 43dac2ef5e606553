"""The experiment's plan, its table, and how jobs are started."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from experiments.jobs import run_jobs
from experiments.miniature import probe, watch, work
from experiments.miniature.plan import BUDGETS, GUIDANCES, MAIN, PRETRAININGS, Budget, Job, Recipe, plan
from experiments.miniature.report import add_beside, collect, legend, table
from experiments.miniature.work import do
from mvp_mm.models import SpeakingStudent
from mvp_mm.models.backbones.sincos_positions import sincos_positions

RECIPES = (Recipe(1e-3, 1.0), Recipe(2e-3, 0.5))
TINY = Budget((0,), (20,), 128, 1, 2, RECIPES, frozen=True, watched=(1, 2))


@pytest.mark.parametrize('length', list(BUDGETS))
def test_every_piece_comes_after_what_it_needs(length):
    settings = BUDGETS[length]
    jobs = plan(list(PRETRAININGS), settings.seeds, settings.labels, settings)
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    for number, job in enumerate(jobs):
        assert set(job.needs) <= set(names[:number]), job
    segmentations = [p for p in jobs if p.name.startswith('segment-scratch')]
    assert len(segmentations) == len(settings.seeds) * len(settings.labels)


def test_unknown_guidance():
    with pytest.raises(ValueError, match='unknown guidance magic; there are scratch, pixel'):
        plan(['magic'], [0], [4], TINY)


def test_table_of_several_seeds(tmp_path):
    jobs = [Job(f'segment-clip-s{seed}-n300', 'segment', 'clip', seed, labels=300) for seed in (0, 1)]
    for job, value in zip(jobs, (30.0, 34.0), strict=True):
        (tmp_path / f'{job.name}.json').write_text(json.dumps(dict(miou=value)))
    assert '| clip | 32.0 ± 2.8 |' in table(collect(jobs, tmp_path))


def test_the_table_has_students_and_teachers_by_names(tmp_path):
    jobs = [Job(f'watch-clip-kk-s{seed}', 'watch', 'clip-kk', seed) for seed in (0, 1)]
    for job, value in zip(jobs, (30.0, 34.0), strict=True):
        last = {'shape/top1': value, 'shape/teacher_top1': 50.5, 'open_vocabulary/mIoU': 9.0}
        (tmp_path / f'{job.name}.json').write_text(
            json.dumps({'1': {'shape/top1': 1.0}, '10': last, 'seconds': 60.0})
        )
    lines = table(collect(jobs, tmp_path)).splitlines()
    assert lines[0] == '| | named shape | named mIoU |'
    assert lines[2] == '| chance | 12.5 |  |'
    assert lines[3:] == ['| clip-kk | 32.0 ± 2.8 | 9.0 ± 0.0 |', '| teacher clip-kk | 50.5 |  |']


def test_rows_of_another_experiment_stand_beside(tmp_path):
    own, other = tmp_path / 'own', tmp_path / 'other'
    length = BUDGETS['captions']
    jobs = plan(GUIDANCES['captions'], length.seeds, length.labels, length)
    for folder, name, value in ((own, 'rils', 30.0), (other, 'rils', 1.0), (other, 'clip', 34.0)):
        folder.mkdir(exist_ok=True)
        (folder / f'segment-{name}-s0-n300.json').write_text(json.dumps(dict(miou=value)))
    about = dict(length='full', seeds=[0], labels=[300], scenes=32000, epochs=4, steps=1000)
    (other / 'experiment.json').write_text(json.dumps(about))
    figures = collect(jobs, own)
    own_names = GUIDANCES['captions']
    found = add_beside(figures, own_names, other, length)
    settings = dict.fromkeys(PRETRAININGS, asdict(length)) | found
    assert table(figures).splitlines()[2:] == ['| clip | 34.0 |', '| rils | 30.0 |']
    told = legend([*(row for row, _ in figures), 'rils-clip-long', 'teacher clip'], settings).splitlines()
    assert told[2:] == [
        '| clip | tokens of CLIP in the joint space (MVP) | 2,000 of 64 | 32,000 |',
        '| rils | RILS | 1,000 of 128 | 32,000 |',
        "| rils-clip-long | CLIP alone, RILS's multiply-adds: 1.5 times the steps | 1,500 of 128 | 32,000 |",
    ]
    (other / 'experiment.json').write_text(json.dumps(dict(about, steps=500)))
    with pytest.raises(ValueError, match='its segmentations took 500 steps, and here they take 1000'):
        add_beside(figures, own_names, other, length)


def run_miniature(jobs, length, out):
    about = dict(length=length, **asdict(BUDGETS[length]))
    run_jobs(jobs, 'experiments.miniature.work', about, out, 2)


def test_a_folder_is_of_one_length_and_done_pieces_stay_done(tmp_path):
    jobs = plan(MAIN, (0,), (300,), BUDGETS['10min'])
    for job in jobs:
        (tmp_path / f'{job.name}.json').write_text('{}')
    run_miniature(jobs, '10min', tmp_path)  # nothing to do
    with pytest.raises(ValueError, match="holds an experiment of length '10min'"):
        run_miniature(jobs, '1h', tmp_path)


@pytest.mark.slow
def test_a_piece_that_fails_is_named_with_its_log(tmp_path):
    # its student is missing
    job = Job('segment-clip-s0-n4', 'segment', 'clip', 0, labels=4, recipe=RECIPES[0])
    with pytest.raises(RuntimeError, match='segment-clip-s0-n4 ended with status 1.*'):
        run_miniature([job], '10min', tmp_path)
    assert 'train-clip-s0' in (tmp_path / f'logs/{job.name}.log').read_text()


def run_in_process(guidance, out, chosen=(), length=TINY):
    """All figures of a guidance, or of some of its jobs, trained for two steps at most."""
    out.mkdir()
    options = {
        'default_hooks.logger.interval': 1,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
    }
    small_evaluation = {
        f'{phase}_dataloader.{key}': value
        for phase in ('val', 'test')
        for key, value in {'dataset.count': 8, 'num_workers': 0, 'persistent_workers': False}.items()
    }
    results = {}
    for job in plan([guidance], (0,), (20,), length):
        if chosen and job.name not in chosen:
            continue
        # those pre-trainings have no validation
        more = {} if job.kind == 'pretrain' and PRETRAININGS[guidance].backbone else small_evaluation
        figures = do(job, length, out, options | more)
        (out / f'{job.name}.json').write_text(json.dumps(figures))
        del figures['seconds']
        results[job.name] = figures
    return results


@pytest.fixture
def quick_probe(monkeypatch):
    for counts in (probe.COUNTS, watch.COUNTS):
        for split in counts:
            monkeypatch.setitem(counts, split, 40)

    def few(masked, *more):
        return watch.evaluators(masked and dict(masked, dataset=dict(masked['dataset'], count=40)), *more)

    monkeypatch.setattr(work, 'evaluators', few)


@pytest.mark.slow
@pytest.mark.parametrize('guidance', ['clip-kk', 'mae'])
def test_all_pieces_of_a_guidance(guidance, tmp_path, quick_probe):
    results = run_in_process(guidance, tmp_path / 'once')
    names = {name.split('-s0')[0] for name in results}
    expected = {f'pretrain-{guidance}', f'probe-{guidance}', f'segment-{guidance}'}
    assert expected | {f'segment-{guidance}-frozen'} <= names
    tuned = [results[f'tune-{guidance}-{recipe}'] for recipe in RECIPES]
    chosen, best = results[f'segment-{guidance}-s0-n20'], max(tuned, key=lambda figures: figures['miou'])
    assert (chosen['rate'], chosen['decay']) == (best['rate'], best['decay'])
    if guidance == 'clip-kk':
        watched = results['watch-clip-kk-s0']
        assert list(watched) == ['1', '2'] and watched['1'] != watched['2']
        assert {'alignment/cls_rank', 'knn_shape/top1_k20', 'shape/gap_top1'} <= set(watched['1'])
        repeated = [f'{kind}-clip-kk-s0' for kind in ('pretrain', 'probe', 'watch')]
        repeated.append(f'tune-clip-kk-{RECIPES[0]}')
        again = run_in_process(guidance, tmp_path / 'again', repeated)
        assert again == {name: results[name] for name in repeated}  # to the last digit


@pytest.mark.slow
def test_all_pieces_of_rils(tmp_path, quick_probe, monkeypatch):
    """The student that is probed, and that segments, is RILS's encoder with its fixed positions."""
    length = replace(TINY, scenes=256, recipes=RECIPES[:1], watched=(2,))
    encoders = []
    monkeypatch.setattr(work, 'probe_scores', lambda encode: encoders.append(encode) or {})
    chosen = ('pretrain-rils-s0', 'probe-rils-s0', 'watch-rils-s0', 'segment-rils-frozen-s0-n300')
    results = run_in_process('rils', tmp_path / 'out', chosen, length)
    assert tuple(results) == chosen
    named = results['watch-rils-s0']['2']
    assert {'knn_shape/top1_k20', 'shape/top1', 'colour/top1', 'open_vocabulary/mIoU'} <= set(named)
    assert not [key for key in named if 'teacher' in key or 'gap' in key]

    own = SpeakingStudent(str(tmp_path / 'out' / results['pretrain-rils-s0']['checkpoint']))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        cls, patches = own.encode_image(images)
        assert torch.equal(encoders[0](images), torch.cat([cls, patches.mean(1)], dim=1))

    (path,) = (tmp_path / 'out/work/segment-rils-frozen-s0-n300').glob('iter_2.pth')
    segmented = torch.load(path, weights_only=False)['state_dict']
    assert torch.equal(segmented['backbone.pos_embed'], sincos_positions((8, 8), 96, 1))
    whole = own.backbone.state_dict()
    kept = {name for name in whole if f'backbone.{name}' in segmented}
    assert set(whole) - kept == {'ln1.weight', 'ln1.bias'}  # feature maps are taken before the final norm
    for name in kept:
        assert torch.equal(segmented[f'backbone.{name}'], whole[name]), name
