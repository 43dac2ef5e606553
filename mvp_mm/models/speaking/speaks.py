"""A mixin for models whose image tokens lie in the space of a text tower."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as TF

from ...text.templates import Templates
from ..student import head_tokens
from .dense import SCALE, dense_cosines, label_map
from .text_tower import Names, TextTower

ImageLike = str | Path | Image.Image | np.ndarray
# From a file or a picture of any mode to upright RGB; `import mvp_mm` adds the decoder of all pipelines.
OPENERS: list[Callable[[Any], Image.Image]] = []
SHORT_SIDE = 1.5  # of an image in windows, in windows: 336 pixels for 224 (SCLIP)


def projected(head: Any, cls: Tensor | None, patches: Tensor) -> tuple[Tensor | None, Tensor]:
    """Project tokens into the joint space; CLS is the patches' mean for a head that ``pools_patches``."""
    if hasattr(head, 'project'):
        return head.project(cls, patches)
    if getattr(head, 'pools_patches', False):
        cls = patches.mean(1)
    return None if cls is None else head(cls), head(patches)


class Speaks:
    """Name images and their pixels without a label, through a text tower.

    Shape legend: B batch, (h, w) patch grid, D joint embedding width, K classes.

    A model has :attr:`text_tower`, :meth:`embed_image` and these attributes.

    Attributes:
        image_size: Height and width in pixels that the model was built for.
        patch_size: Side of a patch in pixels.
        image_mean, image_std: Channel statistics that normalise its images, ``(3,)``, 0–255 scale.
    """

    image_size: tuple[int, int]
    patch_size: int
    image_mean: Tensor
    image_std: Tensor

    @property
    def text_tower(self) -> TextTower:
        """The tower whose texts image tokens are compared with; ValueError says why there is none."""
        raise NotImplementedError

    def embed_image(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        """Embed normalised images ``(B, 3, H, W)``, of any whole number of patches, in the joint space.

        Returns CLS ``(B, D)``, or None if the model has none, and patches ``(B, h * w, D)``, of any length.
        """
        raise NotImplementedError

    @torch.no_grad()
    def zero_shot(
        self, images: Tensor | ImageLike | Sequence[ImageLike], prompts: Names, templates: Templates = 'plain'
    ) -> Tensor:
        """Classify images by names (CLIP §3.1): the softmax of scaled cosines, ``(B, K)`` float32.

        Args:
            images: Normalised ``(B, 3, H, W)``; or files, PIL images or uint8 arrays ``(H, W, 3)``, one or a
                list, of which the centre is taken, as large as the model was built for.
            prompts: A prompt for each class; see :meth:`TextTower.class_embeddings`.
            templates: Sentences around a name, such as ``'openai'``. Default ``'plain'``: prompts as given.

        Raises:
            ValueError: If the model cannot speak, the prompts do not do, or an image cannot be read.
        """
        tower, device = self.text_tower, self.image_mean.device
        embeddings = tower.to(device).class_embeddings(prompts, templates).to(device)
        if not isinstance(images, Tensor):
            listed = [images] if isinstance(images, ImageLike) else list(images)
            if not listed:
                raise ValueError('there are no images: expected at least one')
            images = torch.stack([self._central(self._opened(image)) for image in listed])
        if images.ndim != 4:
            raise ValueError(f'expected normalised images (B, 3, H, W), got {tuple(images.shape)}')
        cls, _ = self.embed_image(images.to(device))
        if cls is None:
            raise ValueError('zero-shot classification compares CLS, and this model has none')
        return (tower.logit_scale * embeddings.of_classes(embeddings.cosines(cls))).softmax(-1)

    @torch.no_grad()
    def segment_by_text(
        self,
        image: ImageLike,
        names: Names,
        templates: Templates | None = None,
        short_side: int | None = None,
        window: int | None = None,
        stride: int | None = None,
        scale: float = SCALE,
        background: int | None = None,
        threshold: float | None = None,
    ) -> Tensor:
        """Segment an image by names: the class of every pixel, int64 ``(H, W)``, on the CPU.

        This is SCLIP's protocol; see docs/speaking.md.

        Args:
            image: File, PIL image or uint8 array ``(H, W, 3)``.
            names: Of the classes; see :meth:`TextTower.class_embeddings`.
            templates: Sentences around the names. Default None: the tower's.
            short_side: The image is resized to it, bicubically. Default None: 1.5 windows.
            window, stride: See :func:`.dense_cosines`. Default None: the smaller side built for, its half.
            scale, background, threshold: See :func:`.label_map`.

        Raises:
            ValueError: If the model cannot speak, the names do not do, or the image cannot be read.
        """
        tower, device = self.text_tower, self.image_mean.device
        embeddings = tower.to(device).class_embeddings(names, templates).to(device)
        window = min(self.image_size) if window is None else window
        picture = self._opened(image)
        size = (picture.height, picture.width)
        factor = (round(SHORT_SIDE * window) if short_side is None else short_side) / min(size)
        seen = (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))
        pixels = self._normalised(TF.resize(picture, seen, TF.InterpolationMode.BICUBIC))
        stride = max(1, window // 2) if stride is None else stride
        cosines = dense_cosines(self, pixels[None], embeddings, window, stride)
        return label_map(cosines, embeddings, size, scale, background, threshold)[0].cpu()

    @staticmethod
    def _opened(image: Any) -> Image.Image:
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(f'expected uint8 (H, W, 3), got {image.dtype} {image.shape}')
            return Image.fromarray(image)
        return OPENERS[0](image)

    def _central(self, picture: Image.Image) -> Tensor:
        height, width = self.image_size
        factor = max(height / picture.height, width / picture.width)
        size = [max(height, round(picture.height * factor)), max(width, round(picture.width * factor))]
        picture = TF.resize(picture, size, TF.InterpolationMode.BICUBIC)
        return self._normalised(TF.center_crop(picture, [height, width]))

    def _normalised(self, picture: Image.Image) -> Tensor:
        mean, std = self.image_mean.view(3, 1, 1), self.image_std.view(3, 1, 1)
        return (TF.pil_to_tensor(picture).to(mean.device, torch.float32) - mean) / std


class SpeakingAlgorithm(Speaks):
    """A pre-training algorithm whose image tokens are those of ``backbone`` through ``neck``."""

    backbone: Any
    neck: Any
    data_preprocessor: Any
    image_size: Any = property(attrgetter('backbone.img_size'))
    patch_size: Any = property(attrgetter('backbone.patch_size'))
    image_mean: Any = property(attrgetter('data_preprocessor.mean'))  # (3, 1, 1)
    image_std: Any = property(attrgetter('data_preprocessor.std'))  # (3, 1, 1)

    @property
    def learns_cls(self) -> bool:
        """Whether CLS is taught: one that is not would answer as if it knew."""
        return True

    def embed_image(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        """See :meth:`Speaks.embed_image`; CLS is None where it is not taught."""
        cls, patches = projected(self.neck, *head_tokens(self.backbone, images))
        return cls if self.learns_cls else None, patches
