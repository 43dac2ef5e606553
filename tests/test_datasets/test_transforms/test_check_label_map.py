import numpy as np
import pytest

from mvp_mm.datasets.transforms.check_label_map import CheckLabelMap, LabelMapError


def sample(labels, size):
    return dict(
        gt_seg_map=labels, seg_map_path='map.png', ori_shape=size, num_classes=3, reduce_zero_label=False
    )


def test_of_its_images_size():
    labels = np.zeros((4, 6), np.uint8)
    assert CheckLabelMap()(sample(labels, (4, 6)))['gt_seg_map'] is labels
    with pytest.raises(LabelMapError, match='6x4 pixels, its image 5x4: make both of one size'):
        CheckLabelMap()(sample(labels, (4, 5)))


def test_of_an_image_that_exif_turns():
    """To resize the map would spoil its labels."""
    with pytest.raises(LabelMapError, match='6x4 pixels, its image 4x6: .* EXIF tag: turn the label map'):
        CheckLabelMap()(sample(np.zeros((4, 6), np.uint8), (6, 4)))


def test_of_one_pixel():
    """mmcv's loader squeezes it to none."""
    CheckLabelMap()(sample(np.array(2, np.uint8), (1, 1)))
    with pytest.raises(LabelMapError, match='has the label 7'):
        CheckLabelMap()(sample(np.array(7, np.uint8), (1, 1)))
