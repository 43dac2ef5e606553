"""What the package asks of a student: exports, pictures, k-NN, evaluators and the zoo use nothing else.

Shape legend: B batch, (H, W) image in pixels, (h, w) patch grid, C width.
"""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Student(Protocol):
    """An image encoder.

    Attributes:
        img_size: Height and width in pixels of the images it was built for.
        patch_size: Side of a patch in pixels.
        embed_dims: Width C of its tokens.
    """

    img_size: tuple[int, int]
    patch_size: int
    embed_dims: int

    def encode_image(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor | None, Tensor]:
        """Encode images.

        Args:
            images: ``(B, 3, H, W)``, normalised.
            mask: ``(B, h, w)`` bool, True = masked. Default None: whole images.

        Returns:
            The CLS token ``(B, C)``, or None for a student without one, and the patch tokens
            ``(B, h * w, C)``, row by row: what leaves the last block, after the final norm if there is one.
        """
        ...


def flat_mask(mask: Tensor, batch: int, grid: tuple[int, int]) -> Tensor:
    """Return a mask ``(B, h, w)`` or ``(B, h * w)`` of any dtype as bool ``(B, h * w)``; check its shape."""
    length = grid[0] * grid[1]
    if tuple(mask.shape[1:]) not in (grid, (length,)) or mask.shape[0] != batch:
        raise ValueError(
            f'mask of shape {tuple(mask.shape)} where the patch grid is {(batch, *grid)}, or flat '
            f'{(batch, length)}: the mask generator and the student must agree on crop and patch size'
        )
    return mask.bool().flatten(1)


def head_tokens(student: Any, images: Tensor) -> tuple[Tensor | None, Tensor]:
    """Return what a pre-training head projects of whole images: ``head_tokens``, else ``encode_image``."""
    return getattr(student, 'head_tokens', student.encode_image)(images)


def student_of(model: nn.Module) -> nn.Module:
    """Return the student inside an algorithm, a classifier or a segmentor: its ``backbone``, or itself.

    Raises:
        ValueError: If neither has ``encode_image``.
    """
    for module in (getattr(model, 'backbone', None), model):
        if isinstance(module, nn.Module) and hasattr(module, 'encode_image'):
            return module
    raise ValueError(
        f'{type(model).__name__} has no student: expected encode_image(images, mask=None) on it or on its '
        '`backbone`; see mvp_mm.models.student.Student'
    )


def task_of(model: nn.Module) -> str:
    """Return what a model does: its ``task``, or for models of other libraries what their heads tell.

    It is ``'pretraining'``, ``'classification'``, ``'segmentation'``, ``'detection'``, ``'contrastive'`` or
    ``'features'``.
    """
    if hasattr(model, 'task'):
        return str(model.task)
    if hasattr(model, 'with_target_generator'):  # mmpretrain's methods of pre-training
        return 'pretraining'
    if hasattr(model, 'with_bbox'):  # mmdet's detectors
        return 'detection'
    if hasattr(model, 'decode_head'):
        return 'segmentation'
    return 'classification' if hasattr(model, 'head') else 'features'
