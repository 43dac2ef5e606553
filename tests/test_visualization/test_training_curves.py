import json
import math

import pytest

from mvp_mm.visualization.training_curves import draw_curves, read_log, read_run, read_runs, smoothed


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
        curves = read_log(log).curves
        assert curves['mIoU'] == [(20, 30.0)], step
        assert curves['loss'] == [(10, 2.0), (20, 1.5), (30, 1.0)]
        assert curves['time'] == [(10, 1.0), (20, 1.0), (30, 1.0)] and 'data_time' not in curves
        assert 'epoch' not in curves and 'iter' not in curves and 'step' not in curves


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


def test_a_killed_process_leaves_half_a_line(tmp_path):
    log = write(tmp_path, 't', row(10, loss=5.0), tail='{"loss": 4.0, "it')
    assert read_log(log).curves['loss'] == [(10, 5.0)]
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


def test_smoothing():
    assert smoothed([3.0, 1.0, 2.0], 0) == [3.0, 1.0, 2.0]
    assert smoothed([4.0] * 5, 0.9) == pytest.approx([4.0] * 5)
    values = smoothed([1.0, 3.0, math.nan, 3.0], 0.5)
    assert values[:2] == pytest.approx([1.0, (0.25 * 1 + 0.5 * 3) / 0.75])
    assert math.isnan(values[2]) and values[3] == pytest.approx((0.125 + 0.75 + 1.5) / 0.875)


@pytest.fixture
def two_runs(tmp_path):
    for name, factor in (('clip', 1), ('pixel', 2)):
        rows = [row(i, loss=factor / i, cosine_cls=0.5, cosine_masked=0.1) for i in range(1, 41)]
        write(tmp_path / name, '20260101_000000', *rows, dict(mIoU=10.0 * factor, step=1))
    write(tmp_path / 'clip', '20260102_000000', row(41, loss=0.1))
    return [tmp_path / 'clip', tmp_path / 'pixel']


def test_what_is_drawn(two_runs):
    figure = draw_curves(read_runs(two_runs), ['cosine_*', 'mIoU', 'loss'], columns=3, logarithmic=['loss'])
    visible = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in visible] == ['cosine_cls', 'cosine_masked', 'mIoU', 'loss']
    loss = visible[3]
    assert loss.get_yscale() == 'log' and visible[0].get_yscale() == 'linear'
    assert [line.get_xdata()[-1] for line in loss.lines] == [41, 40]
    assert loss.lines[1].get_ydata()[3] == 0.5
    assert loss.lines[0].get_color() != loss.lines[1].get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['clip', 'pixel']
    assert [list(line.get_xdata()) for line in visible[2].lines] == [[40], [40]]


def test_usual_keys_and_smoothing(two_runs):
    figure = draw_curves(read_runs(two_runs[:1]), smoothing=0.9)
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert titles == ['loss', 'cosine_cls', 'cosine_masked', 'mIoU', 'lr']
    assert not figure.legends
    raw, smooth = figure.axes[0].lines
    assert raw.get_ydata()[0] == 1 and max(abs(smooth.get_ydata() - raw.get_ydata())) > 0.05
    assert len(figure.axes[titles.index('lr')].lines) == 1  # nothing to smooth


def test_titles(two_runs, tmp_path):
    assert [run.title for run in read_runs(two_runs, ['A', 'B'])] == ['A', 'B']
    twice = [two_runs[0] / '20260101_000000', two_runs[0] / '20260102_000000']
    assert [run.title for run in read_runs(twice)] == [str(path) for path in twice]
    with pytest.raises(ValueError, match='1 titles for 2 runs'):
        read_runs(two_runs, ['A'])


@pytest.mark.parametrize(
    'options,message',
    [
        (dict(patterns=['accuracy']), "no run has a key 'accuracy'; there are cosine_cls, "),
        (dict(logarithmic=['accuracy']), "no run has a key 'accuracy'"),
        (dict(smoothing=1.0), 'smoothing=1.0 is not from 0 to below 1'),
        (dict(columns=0), 'columns=0'),
    ],
)
def test_mistakes(two_runs, options, message):
    with pytest.raises(ValueError, match=message):
        draw_curves(read_runs(two_runs), **options)
