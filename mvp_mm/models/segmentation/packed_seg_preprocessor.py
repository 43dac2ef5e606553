"""mmseg's preprocessing, with one copy to the GPU for a batch."""

import torch
from mmengine.structures import BaseDataElement
from mmseg.models import SegDataPreProcessor
from mmseg.registry import MODELS
from torch import Tensor

ALIGNMENT = 16  # bytes, as of the largest dtype


@MODELS.register_module()
class PackedSegPreprocessor(SegDataPreProcessor):
    """mmseg's ``SegDataPreProcessor``, with its arguments and outputs.

    mmseg copies image after image and label map after label map from memory that is not pinned, and an index
    for each image whose channels it swaps; the CPU waits for the GPU in every one of these copies. Here all
    tensors of a batch, of any sizes, travel in one pinned buffer, and nobody waits.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._swaps_channels, self._channel_conversion = self._channel_conversion, False

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data: ``inputs``: images ``(3, H, W)``, a list or one tensor of them; ``data_samples``.
            training: Whether images and label maps are padded to ``size``, else images as by ``test_cfg``.

        Returns:
            Dict with ``inputs`` (float32 ``(N, 3, H, W)``, normalised) and ``data_samples``.
        """
        data = self.cast_data(data)
        if self._swaps_channels:
            data = dict(data, inputs=[x.flip(0) if len(x) == 3 else x for x in data['inputs']])
        return super().forward(data, training)

    def cast_data(self, data: dict) -> dict:
        """The batch on this module's device."""
        return super().cast_data(data) if self.device.type == 'cpu' else moved_packed(data, self.device)


def moved_packed(data: dict, device: torch.device) -> dict:
    """Copy a batch to a device, all of it in one copy.

    Args:
        data: Dicts, lists, OpenMMLab's samples and tensors in one another.
        device: Where to.

    Returns:
        The same there.
    """
    return _with_tensors(data, iter(move_packed(_tensors(data), device)))


def move_packed(tensors: list[Tensor], device: torch.device) -> list[Tensor]:
    """Copy tensors of the CPU to a device, all in one.

    Args:
        tensors: Of any shapes and dtypes.
        device: Where to.

    Returns:
        The same tensors there, as views of one buffer.
    """
    places = [0]
    for tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        places.append(places[-1] + -(-size // ALIGNMENT) * ALIGNMENT)
    packed = torch.empty(places[-1], dtype=torch.uint8, pin_memory=device.type == 'cuda')
    for tensor, view in zip(tensors, _views(packed, tensors, places), strict=True):
        view.copy_(tensor)
    return _views(packed.to(device, non_blocking=True), tensors, places)


def _views(packed: Tensor, like: list[Tensor], places: list[int]) -> list[Tensor]:
    return [
        packed[place : place + one.numel() * one.element_size()].view(one.dtype).view(one.shape)
        for one, place in zip(like, places, strict=False)
    ]


def _tensors(value: object) -> list[Tensor]:
    """The CPU's tensors in a batch, in the order of :func:`_with_tensors`."""
    if isinstance(value, Tensor):
        return [value] if value.device.type == 'cpu' else []
    if isinstance(value, BaseDataElement):
        value = dict(value.items())
    if isinstance(value, dict):
        value = list(value.values())
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, list | tuple) else []


def _with_tensors(value: object, moved: object) -> object:
    """The batch with these in the place of the CPU's tensors."""
    if isinstance(value, Tensor):
        return next(moved) if value.device.type == 'cpu' else value
    if isinstance(value, BaseDataElement):
        element = value.new()
        for name, part in value.items():
            element.set_data({name: _with_tensors(part, moved)})
        return element
    if isinstance(value, dict):
        return {key: _with_tensors(part, moved) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_with_tensors(part, moved) for part in value])
    return value
