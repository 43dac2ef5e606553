import math

import pytest

from mvp_mm.engine.run_log import Run
from mvp_mm.visualization.training_curves import draw_curves, smoothed


def test_smoothing():
    assert smoothed([3.0, 1.0, 2.0], 0) == [3.0, 1.0, 2.0]
    assert smoothed([4.0] * 5, 0.9) == pytest.approx([4.0] * 5)
    values = smoothed([1.0, 3.0, math.nan, 3.0], 0.5)
    assert values[:2] == pytest.approx([1.0, (0.25 * 1 + 0.5 * 3) / 0.75])
    assert math.isnan(values[2]) and values[3] == pytest.approx((0.125 + 0.75 + 1.5) / 0.875)


@pytest.fixture
def two_runs():
    runs = [Run('clip'), Run('pixel')]
    for factor, run in enumerate(runs, start=1):
        places = range(1, 41 if run.title == 'pixel' else 42)
        run.curves = {
            'loss': [(i, factor / i) for i in places],
            'cosine_cls': [(i, 0.5) for i in places],
            'cosine_masked': [(i, 0.1) for i in places],
            'lr': [(i, 0.1) for i in places],
            'mIoU': [(40, 10.0 * factor)],
        }
    return runs


def test_what_is_drawn(two_runs):
    figure = draw_curves(two_runs, ['cosine_*', 'mIoU', 'loss'], columns=3, logarithmic=['loss'])
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
    figure = draw_curves(two_runs[:1], smoothing=0.9)
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert titles == ['loss', 'cosine_cls', 'cosine_masked', 'mIoU', 'lr']
    assert not figure.legends
    raw, smooth = figure.axes[0].lines
    assert raw.get_ydata()[0] == 1 and max(abs(smooth.get_ydata() - raw.get_ydata())) > 0.05
    assert len(figure.axes[titles.index('lr')].lines) == 1  # nothing to smooth


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
        draw_curves(two_runs, **options)
