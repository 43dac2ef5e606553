"""CoCoOp: context vectors that an image shifts (arXiv 2203.05557).

Shape legend: as in :mod:`.coop`; B images.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..speaking.text_tower import TextTower
from .coop import CoOp

REDUCTION = 16  # of the meta-net's bottleneck: CoCoOp §3.2
MAX_PROMPTS = 2048  # encoded at a time


@MODELS.register_module()
class CoCoOp(CoOp):
    """:class:`CoOp`, name at the end, with a network that adds one vector of the image to all of the context.

    Args:
        text_tower, num_context, closing: See :class:`CoOp`.
        init: See :class:`CoOp`. Default ``'a photo of a'`` (paper); None: normal(0, 0.02).
        class_names: Not used.

    Attributes:
        meta_net (nn.Module): Linear (D → D / 16), ReLU, Linear (D / 16 → C), on unit image features.
    """

    conditional = True

    def __init__(
        self,
        text_tower: TextTower,
        num_context: int | None = None,
        init: str | None = 'a photo of a',
        closing: str = '.',
        class_names: Sequence[str] = (),
    ) -> None:
        super().__init__(text_tower, num_context, init, closing=closing)
        width, joint = self.context.shape[-1], text_tower.encoder.out_channels
        hidden = max(1, joint // REDUCTION)
        layers = dict(linear1=nn.Linear(joint, hidden), relu=nn.ReLU(), linear2=nn.Linear(hidden, width))
        self.meta_net = nn.Sequential(OrderedDict(layers))

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments, as plain data, that make a learner of this one's shape."""
        return dict(num_context=self.num_context, init=None, closing=self.closing)

    def forward(self, names: Sequence[str], image_features: Tensor | None = None) -> Tensor:
        """Embed the prompts of N names for each image, whose features are ``(B, D)``, L2-normalised.

        Returns ``(B, N, D)`` float32, L2-normalised. ValueError if there are no image features, or a name is
        empty or too long.
        """
        parts = self.contexts(image_features).split(max(1, MAX_PROMPTS // len(names)))
        return torch.cat([self.embed(part, names) for part in parts])

    def contexts(self, image_features: Tensor | None = None) -> Tensor:
        """Shift the context by each image's vector: ``(B, 1, M, C)``."""
        if image_features is None:
            raise ValueError(
                'the prompts of CoCoOp depend on the image, so there are no fixed class embeddings: give '
                'image_features, or learn by CoOp'
            )
        return self.context + self.meta_net(image_features)[:, None, None]
