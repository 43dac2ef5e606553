"""CamVid: street scenes with 11 classes."""

from mmseg.registry import DATASETS

from .segmentation_folder import SegmentationFolder

PALETTE = {
    'sky': (128, 128, 128),
    'building': (128, 0, 0),
    'pole': (192, 192, 128),
    'road': (128, 64, 128),
    'pavement': (60, 40, 222),
    'tree': (128, 128, 0),
    'sign': (192, 128, 128),
    'fence': (64, 64, 128),
    'car': (64, 0, 128),
    'pedestrian': (64, 64, 0),
    'bicyclist': (0, 128, 192),
    'unlabelled': (0, 0, 0),
}
CLASSES = tuple(PALETTE)[:-1]


@DATASETS.register_module()
class CamVidDataset(SegmentationFolder):
    """CamVid with indexed PNG labels: 0 to 10 are classes, 11 is unlabelled and ignored.

    Layout and arguments of :class:`SegmentationFolder`; the original distribution's images have
    ``img_suffix='.png'``. Classes that ``metainfo`` does not ask for are ignored; default: ``CLASSES``.
    """

    # mmseg maps the classes of METAINFO that a dataset does not ask for to the ignored label.
    METAINFO = dict(classes=tuple(PALETTE), palette=[list(colour) for colour in PALETTE.values()])

    def __init__(self, **kwargs) -> None:
        kwargs.setdefault('metainfo', dict(classes=CLASSES))
        super().__init__(**kwargs)
