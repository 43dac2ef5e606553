import numpy as np
import pytest
from mmseg.utils import get_palette

from mvp_mm.datasets.sources.scene_segmentation import SceneSegmentation
from mvp_mm.text.class_names import DATASETS, class_names
from mvp_mm.visualization import class_colours


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
