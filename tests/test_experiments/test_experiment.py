"""The experiment's plan, its table, and how jobs are started."""

import json

import pytest

from experiments.miniature import probe, watch
from experiments.miniature.plan import BUDGETS, MAIN, PRETRAININGS, Budget, Job, Recipe, plan
from experiments.miniature.report import collect, table
from experiments.miniature.run import run_jobs
from experiments.miniature.work import do

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
    assert lines[2:] == ['| clip-kk | 32.0 ± 2.8 | 9.0 ± 0.0 |', '| teacher clip-kk | 50.5 |  |']


def test_a_folder_is_of_one_length_and_done_pieces_stay_done(tmp_path):
    jobs = plan(MAIN, (0,), (300,), BUDGETS['10min'])
    for job in jobs:
        (tmp_path / f'{job.name}.json').write_text('{}')
    run_jobs(jobs, '10min', tmp_path, processes=2)  # nothing to do
    with pytest.raises(ValueError, match="holds an experiment of length '10min'"):
        run_jobs(jobs, '1h', tmp_path, processes=2)


@pytest.mark.slow
def test_a_piece_that_fails_is_named_with_its_log(tmp_path):
    # its student is missing
    job = Job('segment-clip-s0-n4', 'segment', 'clip', 0, labels=4, recipe=RECIPES[0])
    with pytest.raises(RuntimeError, match='segment-clip-s0-n4 ended with status 1.*'):
        run_jobs([job], '10min', tmp_path, processes=1)


def run_in_process(guidance, out, chosen=()):
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
    for job in plan([guidance], (0,), (20,), TINY):
        if chosen and job.name not in chosen:
            continue
        # the pre-training by MAE has no validation
        more = {} if job.kind == 'pretrain' and guidance == 'mae' else small_evaluation
        figures = do(job, TINY, out, options | more)
        (out / f'{job.name}.json').write_text(json.dumps(figures))
        del figures['seconds']
        results[job.name] = figures
    return results


@pytest.fixture
def quick_probe(monkeypatch):
    for counts in (probe.COUNTS, watch.COUNTS):
        for split in counts:
            monkeypatch.setitem(counts, split, 40)


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
