"""CamVid: street scenes with 11 classes."""

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

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
class CamVidDataset(BaseSegDataset):
    """CamVid with indexed PNG labels: 0 to 10 are classes, 11 is unlabelled and ignored.

    Layout: ``images/<split>/*.jpg`` and ``annotations/<split>/*.png`` of the same names below
    ``data_root``.

    Args:
        img_suffix: Ending of the images. Default ``'.jpg'``; the original distribution has ``'.png'``.
        seg_map_suffix: Ending of the label maps. Default ``'.png'``.
        **kwargs: Arguments of mmseg's ``BaseSegDataset``.

    Raises:
        FileNotFoundError: If there are no images.
    """

    # mmseg maps the classes of METAINFO that a dataset does not ask for to the ignored label.
    METAINFO = dict(classes=(*CLASSES, 'unlabelled'), palette=[*map(list, PALETTE), [0, 0, 0]])

    def __init__(self, img_suffix: str = '.jpg', seg_map_suffix: str = '.png', **kwargs) -> None:
        kwargs.setdefault('metainfo', dict(classes=CLASSES))
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Find the images and their label maps."""
        found = super().load_data_list()
        if not found:
            raise FileNotFoundError(
                f'no *{self.img_suffix} image in {self.data_prefix["img_path"]}: data_root must hold '
                'images/{train,val} and annotations/{train,val}'
            )
        return found
