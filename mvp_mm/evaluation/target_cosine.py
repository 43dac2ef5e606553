"""How well a pre-trained student predicts its teacher, and how much of that is trivial."""

import torch
from mmengine.dist import all_reduce
from mmpretrain.registry import EVALUATORS
from torch import Tensor, nn
from torch.nn import functional as F

from ..models.mvp.mvp_loss import token_cosines
from .evaluator import Evaluator


@EVALUATORS.register_module()
class TargetCosine(Evaluator):
    """Mean cosine between predicted and target tokens, beside two trivial predictors.

    A raw cosine flatters: tokens at one position resemble each other over all images. So this also reports
    what predicting each position's mean target scores (the best constant predictor: ``constant``), the
    ``excess`` over it, and what the predictions score against another image's targets (``shuffled``).

    Reported, each in [-1, 1]: ``cosine`` (all tokens: minus Eq. 9), ``cls``, ``visible``, ``masked``,
    ``constant``, ``excess``, ``shuffled``.

    Args:
        dataloader: Images with masks, as the training pipeline packs them.
        interval: See :class:`Evaluator`.
        prefix: Default ``'target_cosine'``.
    """

    default_prefix = 'target_cosine'

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Compare the predictions of a model whose ``predict`` returns predicted and target tokens."""
        total: dict[str, Tensor] = {}
        for batch in self.batches(model, self.dataloader):
            predictions, targets = model(batch['inputs'], mask=batch['mask'], mode='predict')
            # Sums, not tokens: the targets of all images would not fit into memory.
            for name, value in token_sums(predictions, targets, batch['mask']).items():
                total[name] = total[name] + value if name in total else value
        for value in total.values():
            all_reduce(value)
        return figures(total)


def token_sums(predictions: Tensor, targets: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Sum over a batch what :func:`figures` needs, in float64 on the CPU.

    Predictions and targets are ``(B, 1+M, D)``; image i is also compared with the targets of image i - 1.
    The mask is ``(B, h, w)`` or ``(B, M)`` bool, True = masked.
    """
    targets = targets.float()
    cosines = token_cosines(predictions, targets).double().cpu()
    shuffled = token_cosines(predictions, targets.roll(1, dims=0)).double().cpu()
    masked = mask.flatten(1).double().cpu()
    return dict(
        images=torch.tensor(float(len(cosines)), dtype=torch.float64),
        cosine=cosines.mean(1).sum(),
        cls=cosines[:, 0].sum(),
        visible=(cosines[:, 1:] * (1 - masked)).sum(),
        masked=(cosines[:, 1:] * masked).sum(),
        num_masked=masked.sum(),
        num_visible=(1 - masked).sum(),
        shuffled=shuffled.mean(1).sum(),
        unit_targets=F.normalize(targets, dim=-1).cpu().double().sum(0),
    )


def figures(total: dict[str, Tensor]) -> dict[str, float]:
    """Turn the sums over all images into what :class:`TargetCosine` reports."""
    images = total['images']
    cosine = total['cosine'] / images
    # The constant vector with the best mean cosine to unit vectors has their mean's direction, and that
    # best mean cosine is the length of their mean.
    constant = (total['unit_targets'] / images).norm(dim=-1).mean()
    values = dict(
        cosine=cosine,
        cls=total['cls'] / images,
        visible=total['visible'] / total['num_visible'],
        masked=total['masked'] / total['num_masked'],
        constant=constant,
        excess=cosine - constant,
        shuffled=total['shuffled'] / images,
    )
    return {name: value.item() for name, value in values.items()}
