"""The prediction heads of several teachers."""

from collections.abc import Mapping
from typing import Any

from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..compilation import require_choice
from ..target_generators.target_generators import require_names
from .mvp_neck import MVPNeck
from .standardiser import METHODS, Standardiser


@MODELS.register_module()
class MVPNecks(BaseModule):
    """An :class:`MVPNeck` for each teacher, which predicts the teacher's standardised targets.

    The statistics are part of the head, and of its checkpoint: without them a prediction is not in the
    teacher's space. They cost D or, for PHI-S, D² numbers.

    Args:
        in_channels: Student width C.
        out_channels: Target width D of each teacher, by name.
        standardise: ``'dimensions'``, ``'phi-s'`` (:class:`.Standardiser`), ``'none'`` or ``'auto'``
            (default): ``'none'`` for a single teacher, which then is MVP, else ``'dimensions'``.
        batches: Training batches of each teacher that its statistics come from. Default 100, this project's
            choice: 6,400 CLS tokens at a batch of 64.
        speaks: Name of the teacher in whose space :meth:`project` ends. Default None: the first.
        init_cfg: MMEngine initialisation. Default None: :class:`MVPNeck`'s.

    Raises:
        ValueError: If there is no teacher, a name cannot name a module, or an argument is none of the above.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: Mapping[str, int],
        standardise: str = 'auto',
        batches: int = 100,
        speaks: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        require_choice(standardise, 'standardise', ('auto', 'none', *METHODS))
        require_names(out_channels)
        self.in_channels, self.out_channels = in_channels, dict(out_channels)
        self.speaks = speaks or next(iter(out_channels))
        if self.speaks not in out_channels:
            raise ValueError(f'speaks={speaks!r} is none of the teachers {", ".join(out_channels)}')
        heads = {name: MVPNeck(in_channels, width) for name, width in out_channels.items()}
        self.heads = nn.ModuleDict(heads)
        if standardise == 'auto':
            standardise = 'dimensions' if len(out_channels) > 1 else 'none'
        self.standardisers = nn.ModuleDict()
        if standardise != 'none':
            for name, width in out_channels.items():
                self.standardisers[name] = Standardiser(width, standardise, batches)

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Project ``(B, 1+M, C)`` to the standardised space of each teacher, ``(B, 1+M, D)``."""
        return {name: head(tokens) for name, head in self.heads.items()}

    def standardised(self, targets: Mapping[str, Tensor], extra: Mapping[str, int]) -> dict[str, Tensor]:
        """Standardise targets by teacher, of which ``extra`` tokens, 1 or 0, are those of CLS."""
        if not self.standardisers:
            return dict(targets)
        return {name: self.standardisers[name](tokens, extra[name]) for name, tokens in targets.items()}

    def project(self, cls: Tensor | None, patches: Tensor) -> tuple[Tensor | None, Tensor]:
        """Project ``(B, C)`` and ``(B, M, C)`` to the space of the teacher that ``speaks``."""
        head: Any = self.heads[self.speaks]

        def project(tokens: Tensor, kind: int) -> Tensor:
            if not self.standardisers:
                return head(tokens)
            standardiser: Any = self.standardisers[self.speaks]
            return standardiser.restore(head(tokens), kind)

        return None if cls is None else project(cls, 0), project(patches, 1)
