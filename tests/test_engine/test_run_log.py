"""The numbers of runs, from logs such as MMEngine writes."""

import json

import pytest

from mvp_mm.engine.run_log import read_run, read_runs


def row(iteration, **values):
    return dict(lr=0.1, **values, iter=iteration, step=iteration)


def write(work_dir, time, *rows, name='scalars.json', tail=''):
    folder = work_dir / time / 'vis_data'
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(''.join(json.dumps(row) + '\n' for row in rows) + tail)
    return folder / name


def test_validations_stand_at_their_place(tmp_path):
    """MMEngine's step of a validation is an epoch, an iteration or 0; that of the training counts."""
    for step in (1, 20, 0):
        log = write(
            tmp_path,
            f'{step}',
            row(10, loss=2.0, epoch=1, time=1.0),
            row(20, loss=1.5, epoch=1, time=1.0),
            dict(mIoU=30.0, time=9.0, data_time=8.0, step=step),
            row(30, loss=1.0, epoch=2, time=1.0),
        )
        curves = read_run(log).curves
        assert curves['mIoU'] == [(20, 30.0)], step
        assert curves['loss'] == [(10, 2.0), (20, 1.5), (30, 1.0)]
        assert curves['time'] == [(10, 1.0), (20, 1.0), (30, 1.0)] and 'data_time' not in curves
        assert 'epoch' not in curves and 'iter' not in curves and 'step' not in curves


def test_a_validation_that_a_restart_makes_up(tmp_path):
    """It stands where the training was, not at the epoch that it is logged with."""
    first = [row(100, loss=3.0), dict(mIoU=10.0, step=1), row(200, loss=2.0), dict(mIoU=20.0, step=2)]
    write(tmp_path, '1', *first, row(250, loss=1.5))
    write(tmp_path, '2', dict(mIoU=21.0, step=2), row(210, loss=1.8), dict(mIoU=30.0, step=3))
    curves = read_run(tmp_path).curves
    assert curves['mIoU'] == [(100, 10.0), (200, 21.0), (210, 30.0)]
    assert curves['loss'] == [(100, 3.0), (200, 2.0), (210, 1.8)]


def test_restarts_are_joined(tmp_path):
    run = tmp_path / 'a run'
    # The second began at iteration 21, from a checkpoint of 20; 30 of the first was thrown away.
    first = [
        row(10, loss=5.0),
        row(20, loss=4.0),
        dict(mIoU=1.0, step=0),
        row(30, loss=99.0),
        dict(mIoU=9.0, step=0),
    ]
    write(run, '20260101_000000', *first)
    write(run, '20260102_000000', row(30, loss=3.0), row(40, loss=2.0), dict(mIoU=2.0, step=0))
    write(run, '20260103_000000', dict(mIoU=77.0, step=0))  # of tools/test.py
    joined = read_run(run)
    assert joined.title == 'a run'
    assert joined.curves['loss'] == [(10, 5.0), (20, 4.0), (30, 3.0), (40, 2.0)]
    assert joined.curves['mIoU'] == [(20, 1.0), (40, 2.0)]
    # one of them, by its folder or its file
    for path in (run / '20260102_000000', run / '20260102_000000/vis_data/scalars.json'):
        assert read_run(path).curves['loss'] == [(30, 3.0), (40, 2.0)] and read_run(path).title == 'a run'
    # begun anew in the same folder: the later run counts
    write(run, '20260104_000000', row(10, loss=7.0))
    assert read_run(run).curves['loss'] == [(10, 7.0)]


def test_only_validations(tmp_path):
    log = write(tmp_path, '20260101_000000', dict(mIoU=3.0, time=1.0, step=5))
    assert read_run(log).curves == {'mIoU': [(5, 3.0)], 'time': [(5, 1.0)]}
    write(tmp_path, '20260102_000000', dict(mIoU=4.0, step=5))
    assert read_run(tmp_path).curves['mIoU'] == [(5, 3.0), (5, 4.0)]


def test_a_killed_process_leaves_half_a_line(tmp_path):
    log = write(tmp_path, 't', row(10, loss=5.0), tail='{"loss": 4.0, "it')
    assert read_run(log).curves['loss'] == [(10, 5.0)]
    (tmp_path / 'renamed.json').write_text(log.read_text())
    assert read_run(tmp_path / 'renamed.json').title == 'renamed'


@pytest.mark.parametrize(
    'text,message',
    [
        ('', 'is an empty log'),
        ('{"mIoU": 3}', 'line 1 is not a JSON object with a step'),
        ('{"iter": 1, "step": 1}\nnonsense\n{"iter": 2, "step": 2}', 'line 2 is not a JSON object'),
    ],
)
def test_no_logs(tmp_path, text, message):
    (tmp_path / 'a.json').write_text(text)
    with pytest.raises(ValueError, match=message):
        read_run(tmp_path / 'a.json')


def test_no_runs(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no run .*gone'):
        read_run(tmp_path / 'gone')
    write(tmp_path / 'deep', 't', row(1))
    with pytest.raises(FileNotFoundError, match='there are runs in .*deep'):
        read_run(tmp_path)


def test_titles(tmp_path):
    runs = [write(tmp_path / name, 't', row(1, loss=1.0)).parents[2] for name in ('clip', 'pixel')]
    write(runs[0], 'u', row(2, loss=1.0))
    assert [run.title for run in read_runs(runs)] == ['clip', 'pixel']
    assert [run.title for run in read_runs(runs, ['A', 'B'])] == ['A', 'B']
    twice = [runs[0] / 't', runs[0] / 'u']
    assert [run.title for run in read_runs(twice)] == [str(path) for path in twice]
    with pytest.raises(ValueError, match='1 titles for 2 runs'):
        read_runs(runs, ['A'])


def test_what_only_validations_log(tmp_path):
    run = tmp_path / 'run'
    write(run, '1', row(1, loss=1.0, time=2.0), dict(mIoU=3.0, time=1.0, step=1))
    write(run, '2', dict(top1=1.0, step=0))
    assert read_run(run).validation_keys == {'mIoU', 'top1'}
