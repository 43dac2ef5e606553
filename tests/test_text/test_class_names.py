"""Names of classes, against the datasets' own."""

import re

import mmseg.datasets
import open_clip
import pytest

from mvp_mm.datasets import segmentation
from mvp_mm.datasets.scenes import CLASSES
from mvp_mm.datasets.sources.camvid import CLASSES as CAMVID_CLASSES
from mvp_mm.text.class_names import DATASETS, ENGLISH, class_names, names_in

METAINFO = {
    'ade20k': mmseg.datasets.ADE20KDataset.METAINFO['classes'],
    'cityscapes': mmseg.datasets.CityscapesDataset.METAINFO['classes'],
    'voc20': mmseg.datasets.PascalVOCDataset.METAINFO['classes'][1:],
    'voc21': mmseg.datasets.PascalVOCDataset.METAINFO['classes'],
    'context59': mmseg.datasets.PascalContextDataset59.METAINFO['classes'],
    'context60': mmseg.datasets.PascalContextDataset.METAINFO['classes'],
    'coco_stuff': mmseg.datasets.COCOStuffDataset.METAINFO['classes'],
    'camvid': CAMVID_CLASSES,
    'scenes': segmentation.SceneSegmentation.METAINFO['classes'],
    'imagenet': open_clip.IMAGENET_CLASSNAMES,
}
COUNTS = dict(ade20k=150, cityscapes=19, voc20=20, voc21=21, context59=59, context60=60, coco_stuff=171)
COUNTS |= dict(camvid=11, scenes=9, imagenet=1000)


def test_every_list_is_tested():
    assert set(DATASETS) == set(METAINFO) == set(COUNTS)


@pytest.mark.parametrize('dataset', DATASETS)
def test_same_classes_in_the_same_order(dataset):
    """Each class shares a word with its dataset's own name, or is one of the renamed."""
    names, own = class_names(dataset), METAINFO[dataset]
    assert len(names) == len(own) == COUNTS[dataset]
    for name, theirs in zip(names, own, strict=True):
        words = set(re.findall('[a-z]+', name.lower()))
        assert words & set(re.findall('[a-z]+', theirs.lower())) or name == ENGLISH[theirs], (name, theirs)


@pytest.mark.parametrize('dataset', DATASETS)
def test_names_are_words_and_tell_classes_apart(dataset):
    groups = [name.split(', ') for name in class_names(dataset)]
    for name in (name for group in groups for name in group):
        assert name == name.strip() and name and '-other' not in name and '-stuff' not in name
    if dataset != 'imagenet':  # of which open_clip calls two missile and two sunglasses
        names = [name for group in groups for name in group]
        assert len(names) == len(set(names))


def test_own_names_are_taken_as_they_are():
    assert class_names('imagenet') == list(open_clip.IMAGENET_CLASSNAMES)
    assert tuple(class_names('scenes')) == CLASSES
    assert class_names('cityscapes') == list(METAINFO['cityscapes'])


def test_readable_english():
    voc, stuff, ade = class_names('voc20'), class_names('coco_stuff'), class_names('ade20k')
    assert voc[-1] == 'television, tv monitor' and voc[15] == 'potted plant' and voc[10] == 'dining table'
    assert {'brick wall', 'wood floor', 'window blind', 'sky', 'playing field', 'tile ceiling'} <= set(stuff)
    assert 'bed' in ade and 'bed ' not in ade
    assert class_names('voc21')[0].startswith('background, sky') and class_names('voc21')[1:] == voc
    assert class_names('context60') == ['background', *class_names('context59')]


def test_no_english_is_left_over():
    assert set(ENGLISH) <= {name.strip() for names in METAINFO.values() for name in names}


def test_unknown_dataset():
    with pytest.raises(ValueError, match=r"no class names of 'ade': expected ade20k, cityscapes, .*imagenet"):
        class_names('ade')


def test_names_of_a_command_line():
    assert names_in('sky, road,car|truck ') == [['sky'], ['road'], ['car', 'truck']]
    with pytest.raises(ValueError, match=r"^'camvidd' is no dataset .*: did you mean camvid\?$"):
        names_in('camvidd')
    assert names_in('camvid') == class_names('camvid') and names_in('a,') == [['a'], ['']]
