"""What pre-training algorithms that speak have in common: a student, a head and a data preprocessor."""

from typing import Any

from torch import Tensor

from ..student import head_tokens
from .speaks import Speaks, projected


class SpeakingAlgorithm(Speaks):
    """A :class:`Speaks` whose image tokens are those of ``backbone`` through ``neck``."""

    backbone: Any
    neck: Any
    data_preprocessor: Any

    @property
    def learns_cls(self) -> bool:
        """Whether CLS is taught: one that is not would answer as if it knew."""
        return True

    def embed_image(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        """Project the tokens of whole images: CLS or its stand-in ``(B, D)``, patches ``(B, M, D)``."""
        cls, patches = projected(self.neck, *head_tokens(self.backbone, images))
        return cls if self.learns_cls else None, patches

    @property
    def image_size(self) -> tuple[int, int]:  # type: ignore[override]
        """Height and width in pixels that the student was built for."""
        return self.backbone.img_size

    @property
    def patch_size(self) -> int:  # type: ignore[override]
        """Side of the student's patches in pixels."""
        return self.backbone.patch_size

    @property
    def image_mean(self) -> Tensor:  # type: ignore[override]
        """Means of the data preprocessor, ``(3, 1, 1)``."""
        return self.data_preprocessor.mean

    @property
    def image_std(self) -> Tensor:  # type: ignore[override]
        """Standard deviations of the data preprocessor, ``(3, 1, 1)``."""
        return self.data_preprocessor.std
