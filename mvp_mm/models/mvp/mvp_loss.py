"""Eq. 9: minus the mean cosine between predicted and target tokens."""

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F


def token_cosines(pred: Tensor, target: Tensor) -> Tensor:
    """Compute each token's cosine ``(B, 1+M)`` from two ``(B, 1+M, D)``, in float32 also under autocast."""
    if pred.shape != target.shape:
        raise ValueError(
            f'predictions have shape {tuple(pred.shape)} but targets {tuple(target.shape)}: the neck '
            "must give the target generator's width, and both networks the same patch grid"
        )
    with torch.autocast(pred.device.type, enabled=False):
        return F.cosine_similarity(pred.float(), target.float(), dim=-1)


@MODELS.register_module()
class MVPLoss(nn.Module):
    """``-(cos(F_cls, G_cls) + sum_m cos(F_m, G_m)) / (M + 1)`` (paper Eq. 9), averaged over the batch.

    Where the tokens have no CLS, neither has the mean.

    Args:
        tokens: Patch tokens to average: ``'all'`` (default, the paper's) or ``'masked'`` (ablation).
        cls_weight: Weight of CLS in the weighted mean; a patch token has 1. Default 1 (Eq. 9).

    Raises:
        ValueError: If an argument is none of the above.
    """

    def __init__(self, tokens: str = 'all', cls_weight: float = 1.0) -> None:
        super().__init__()
        if tokens not in ('all', 'masked'):
            raise ValueError(f"tokens={tokens!r} is neither 'all' nor 'masked'")
        if cls_weight < 0:
            raise ValueError(f'cls_weight={cls_weight} is negative')
        self.tokens, self.cls_weight = tokens, cls_weight

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Eq. 9: a float32 scalar in [-1, 1].

        Args:
            pred: Predictions F, ``(B, 1+M, D)``, CLS first, or with a mask ``(B, M, D)`` too.
            target: Targets G, as ``pred``.
            mask: ``(B, h, w)`` or ``(B, M)`` bool, True = masked; needed by ``'masked'`` and without CLS.
        """
        return self.average(token_cosines(pred, target), mask)

    def average(self, cosines: Tensor, mask: Tensor | None = None) -> Tensor:
        """Average the cosines ``(B, 1+M)`` or ``(B, M)`` of :func:`token_cosines` to the loss."""
        weights = torch.ones_like(cosines)
        extra = 1 if mask is None else cosines.shape[1] - mask[0].numel()
        if self.tokens == 'masked':
            if mask is None:
                raise ValueError("MVPLoss(tokens='masked') needs the mask")
            weights[:, extra:] = mask.flatten(1)
        weights[:, :extra] = self.cls_weight
        return -((weights * cosines).sum(1) / weights.sum(1)).mean()
