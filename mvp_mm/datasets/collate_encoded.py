"""A batch of files that are not decoded yet."""

from collections.abc import Sequence

import torch
from mmengine.registry import FUNCTIONS
from torch import Tensor


@FUNCTIONS.register_module()
def collate_encoded(samples: Sequence[dict]) -> dict:
    """Put the files of a batch into one tensor; several hundred would each take a file descriptor.

    Args:
        samples: Of :class:`EncodedCrop` and :class:`PackMaskedInputs`.

    Returns:
        ``inputs``: uint8, all files or crops one after the other; ``lengths``: int64 ``(B,)``, the bytes of
        each; ``mask``: bool ``(B, h, w)``; ``data_samples``: B samples.
    """
    parts = [sample['inputs'].flatten() for sample in samples]
    return dict(
        inputs=torch.cat(parts),
        lengths=torch.tensor([len(part) for part in parts]),
        mask=torch.stack([sample['mask'] for sample in samples]),
        data_samples=[sample['data_samples'] for sample in samples],
    )


def split_encoded(batch: dict) -> tuple[tuple[Tensor, ...], list[int]]:
    """Take the files of a batch apart again.

    Args:
        batch: Of :func:`collate_encoded`.

    Returns:
        B tensors, uint8 and flat; the indices of those that are files, the others being crops that the loader
        had to make.
    """
    parts = batch['inputs'].split(batch['lengths'].tolist())
    return parts, [number for number, sample in enumerate(batch['data_samples']) if 'crop_draw' in sample]
