"""Decode and cut crops where they are learnt from."""

import warnings
from collections.abc import Sequence

import torch
import torchvision.io
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor
from torchvision.transforms import functional as tvf

from ..datasets import LoadRGBImage, UnreadableImageError
from ..datasets.beit_order import crop_of_image
from ..datasets.collate_encoded import split_encoded
from ..models import MVPDataPreprocessor


@MODELS.register_module()
class DeviceCropPreprocessor(MVPDataPreprocessor):
    """Decode the files of :class:`EncodedCrop` on the device, nvJPEG on CUDA, and cut their crops there.

    The crops are made in BEiT's order, each step on the whole image, by torchvision's functions of tensors.
    A batch of :func:`collate_encoded` comes in; other batches are treated as by
    :class:`MVPDataPreprocessor`. A file that the device's decoder refuses is read by Pillow; if that cannot
    read it either, another crop of the batch takes its place, and :class:`UnreadableImagesHook` hears of it.

    Args:
        size: Of the crops, int or ``(height, width)``; that of :class:`EncodedCrop`.
        **kwargs: As :class:`MVPDataPreprocessor`'s.

    Raises:
        ImportError: Where torchvision has no ``decode_jpeg``.
        UnreadableImageError: While training, if no image of a batch can be read.
        ValueError: If a crop that the loader made has another size.
    """

    def __init__(self, size: int | Sequence[int], **kwargs) -> None:
        super().__init__(**kwargs)
        if not hasattr(torchvision.io, 'decode_jpeg'):
            raise ImportError(
                f'torchvision {torchvision.__version__} has no decode_jpeg, which DeviceCropPreprocessor '
                'needs: use FastCrop and MVPDataPreprocessor instead'
            )
        self.size = (size, size) if isinstance(size, int) else tuple(size)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data: Of :func:`collate_encoded`, or as for :class:`MVPDataPreprocessor`.
            training: Not used.

        Returns:
            As :class:`MVPDataPreprocessor`'s.
        """
        if 'lengths' in data:
            data = dict(data, inputs=self._crops(data))
        return super().forward(data, training)

    def _crops(self, data: dict) -> list[Tensor]:
        """The crops of a batch, uint8 ``(3, *size)`` on the device."""
        samples = data['data_samples']
        parts, encoded = split_encoded(data)
        images = dict(zip(encoded, self._decoded([parts[number] for number in encoded]), strict=True))
        crops = list[Tensor | None]()
        for number, (part, sample) in enumerate(zip(parts, samples, strict=True)):
            if number not in images:
                crops.append(self._finished(part))
                continue
            image = self._by_pillow(sample) if images[number] is None else images[number]
            crops.append(None if image is None else crop_of_image(image, self.size, sample.crop_draw))
        readable = [crop for crop in crops if crop is not None]
        if not readable:
            listed = '\n'.join(f'  {path}: {reason}' for s in samples for path, reason in s.unreadable)
            raise UnreadableImageError(f'no image of a batch can be read\n{listed}')
        return [
            readable[number % len(readable)] if crop is None else crop for number, crop in enumerate(crops)
        ]

    def _finished(self, part: Tensor) -> Tensor:
        if len(part) != 3 * self.size[0] * self.size[1]:
            raise ValueError(
                f'a crop of {len(part)} bytes is not of size={self.size}: give EncodedCrop (in the pipeline) '
                'and DeviceCropPreprocessor (model.data_preprocessor) the same size'
            )
        return self._to_device(part.view(3, *self.size))

    def _decoded(self, files: list[Tensor]) -> list[Tensor | None]:
        """Images of JPEG files, ``(3, H, W)``; None for what the decoder refuses."""
        if not files:
            return []
        try:
            return self.decode(files)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # it does not say of which
            return [None] if len(files) == 1 else [self._decoded([file])[0] for file in files]

    def decode(self, files: list[Tensor]) -> list[Tensor]:
        """Images ``(3, H, W)`` of JPEG files, on the device.

        Raises:
            RuntimeError: If the decoder refuses one.
        """
        device = self.mean.device
        by_cuda = device.type == 'cuda'
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', DeprecationWarning)  # since torchvision 0.29
            images = torchvision.io.decode_jpeg(
                files, torchvision.io.ImageReadMode.RGB, device=device if by_cuda else 'cpu'
            )
        return images if by_cuda else [self._to_device(image) for image in images]

    def _by_pillow(self, sample: DataSample) -> Tensor | None:
        try:
            image = LoadRGBImage()(dict(img_path=sample.img_path))['img']
        except UnreadableImageError as error:
            found = [*sample.get('unreadable', ()), (sample.img_path, str(error))]
            sample.set_field(found, 'unreadable', field_type='metainfo')
            return None
        return self._to_device(tvf.pil_to_tensor(image))
