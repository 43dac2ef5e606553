"""CamVid: street scenes with 11 classes."""

from mmseg.registry import DATASETS

from .segmentation_folder import SegmentationFolder

CLASSES = (
    'sky',
    'building',
    'pole',
    'road',
    'pavement',
    'tree',
    'sign',
    'fence',
    'car',
    'pedestrian',
    'bicyclist',
)
PALETTE = (
    (128, 128, 128),
    (128, 0, 0),
    (192, 192, 128),
    (128, 64, 128),
    (60, 40, 222),
    (128, 128, 0),
    (192, 128, 128),
    (64, 64, 128),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
)


@DATASETS.register_module()
class CamVidDataset(SegmentationFolder):
    """CamVid with indexed PNG labels: 0 to 10 are classes, 11 is unlabelled and ignored.

    Layout: ``images/<split>/*.jpg`` and ``annotations/<split>/*.png`` of the same names below
    ``data_root``. The original distribution's images have ``img_suffix='.png'``.

    Args:
        **kwargs: Arguments of :class:`SegmentationFolder`. Classes that ``metainfo`` does not ask for are
            ignored; default: all of ``CLASSES``.

    Raises:
        FileNotFoundError: If files are missing.
    """

    # mmseg maps the classes of METAINFO that a dataset does not ask for to the ignored label.
    METAINFO = dict(classes=(*CLASSES, 'unlabelled'), palette=[*map(list, PALETTE), [0, 0, 0]])

    def __init__(self, **kwargs) -> None:
        kwargs.setdefault('metainfo', dict(classes=CLASSES))
        super().__init__(**kwargs)
