import numpy as np
import pytest
from PIL import Image

from mvp_mm.visualization.paper_figure import figure_path, new_figure, save_figure


def test_text_stays_text_in_every_format(tmp_path):
    figure = new_figure(2, 1)
    figure.subplots().set_title('a title')
    for ending in ('.png', '.pdf', '.svg'):
        save_figure(figure, tmp_path / 'deep' / f'figure{ending}', dpi=50)
    assert (tmp_path / 'deep/figure.pdf').read_bytes().startswith(b'%PDF')
    assert b'Type3' not in (tmp_path / 'deep/figure.pdf').read_bytes()
    assert '>a title</text>' in (tmp_path / 'deep/figure.svg').read_text()
    assert Image.open(tmp_path / 'deep/figure.png').size == (100, 50)
    assert np.asarray(Image.open(tmp_path / 'deep/figure.png').convert('L')).min() < 100  # drawn


def test_other_endings():
    with pytest.raises(ValueError, match=r'a\.jpg: a figure ends in \.png, \.pdf, \.svg'):
        figure_path('a.jpg')
