import numpy as np
import pytest
from mmseg.utils import get_palette
from PIL import Image

from mvp_mm.datasets.sources.scene_segmentation import SceneSegmentation
from mvp_mm.text.class_names import DATASETS, class_names
from mvp_mm.visualization import class_colours, draw_overlay, save_overlay

PALETTE = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


def test_pixels_and_legend(tmp_path):
    image = np.full((60, 80, 3), 100, np.uint8)
    labels = np.zeros((60, 80), int)
    labels[:, 60:] = 2
    labels[:10] = 255
    figure = draw_overlay(image, labels, ('a', 'b', 'c'), PALETTE, opacity=0.5)
    save_overlay(figure, tmp_path / 'deep' / 'picture.png')
    drawn = np.asarray(Image.open(tmp_path / 'deep' / 'picture.png').convert('RGB')).astype(int)
    top = drawn.shape[0] - 60  # the figure is at least an inch high
    picture = drawn[top // 2 : top // 2 + 60, :80]
    assert np.abs(picture[30, 20] - [178, 50, 50]).max() <= 2  # half class a, half image
    assert np.abs(picture[30, 70] - [50, 50, 178]).max() <= 2
    assert np.abs(picture[4, 20] - 100).max() <= 2  # ignored: the image itself
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ['a 62.5%', 'c 20.8%']


def test_sizes_must_agree():
    with pytest.raises(ValueError, match=r'\(5, 5\) does not cover an image of \(6, 5\)'):
        draw_overlay(np.zeros((6, 5, 3), np.uint8), np.zeros((5, 5), int), ('a',), PALETTE)


@pytest.mark.parametrize('dataset', DATASETS)
def test_a_colour_a_class(dataset):
    names = class_names(dataset)
    colours = np.array(class_colours(len(names), dataset))
    assert colours.shape == (len(names), 3) and colours.min() >= 0 and colours.max() <= 255


def test_those_of_the_datasets():
    assert class_colours(20, 'voc20') == [list(colour) for colour in get_palette('voc')[1:]]
    assert class_colours(60, 'context60')[1:] == [list(colour) for colour in get_palette('pcontext')]
    assert class_colours(9, 'scenes') == SceneSegmentation.METAINFO['palette']


def test_any_list():
    """Neighbours differ clearly, and a longer list begins with the same colours."""
    colours = np.array(class_colours(16))
    assert class_colours(30)[:16] == colours.tolist()
    apart = np.abs(colours[:, None] - colours[None]).max(-1) + 255 * np.eye(16, dtype=int)
    assert apart.min() > 20 and np.abs(np.diff(colours, axis=0)).max(-1).min() > 80
