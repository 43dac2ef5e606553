"""How well a pre-trained student predicts its teacher, and how much of that is trivial."""

from collections.abc import Mapping
from typing import Any

import torch
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
    ``constant``, ``excess``, ``shuffled``. :class:`Alignment` has an excess for each kind of token.

    Args:
        dataloader: Images with masks, as the training pipeline packs them.
        **kwargs: See :class:`Evaluator`. The default ``prefix`` is ``'target_cosine'``.
    """

    default_prefix = 'target_cosine'

    def require(self, model: nn.Module) -> None:
        """Refuse a model that does not predict tokens."""
        if not hasattr(model, 'predict'):
            raise ValueError(
                f'{type(self).__name__}: a {type(model).__name__} has no predict(inputs, mask) that returns '
                'predicted and target tokens, as that of MVP'
            )

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Compare the predictions of a model whose ``predict`` returns predicted and target tokens."""

        def sums(batch: Mapping[str, Any]) -> dict[str, Tensor]:  # tokens of all images would fill the memory
            predictions, targets = model(batch['inputs'], mask=batch['mask'], mode='predict')
            return token_sums(predictions, targets, batch['mask'])

        return figures(self.total(map(sums, self.batches(model, self.dataloader))))


def token_sums(predictions: Tensor, targets: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """Sum over a batch what :func:`figures` and :func:`excesses` need, in float64 on the CPU.

    Predictions and targets are ``(B, 1+M, D)``, or ``(B, M, D)`` without CLS; image i is also compared with
    the targets of image i - 1. The mask is ``(B, h, w)`` or ``(B, M)`` bool, True = masked.
    """
    if mask is None:
        raise ValueError('the images have no masks: end the pipeline with BlockwiseMask and PackMaskedInputs')
    targets = targets.float()
    cosines = token_cosines(predictions, targets).double().cpu()
    shuffled = token_cosines(predictions, targets.roll(1, dims=0)).double().cpu()
    masked = mask.flatten(1).double().cpu()
    units = F.normalize(targets, dim=-1).cpu().double()
    extra = cosines.shape[1] - masked.shape[1]
    patches = cosines[:, extra:]
    sums = dict(
        images=torch.tensor(float(len(cosines)), dtype=torch.float64),
        cosine=cosines.mean(1).sum(),
        visible=(patches * (1 - masked)).sum(),
        masked=(patches * masked).sum(),
        num_masked=masked.sum(),
        num_visible=(1 - masked).sum(),
        shuffled=shuffled.mean(1).sum(),
        unit_targets=units.sum(0),
        unit_masked_targets=torch.einsum('bm,bmd->md', masked, units[:, extra:]),
    )
    return dict(sums, cls=cosines[:, 0].sum()) if extra else sums


def figures(total: dict[str, Tensor]) -> dict[str, float]:
    """Turn the sums over all images into what :class:`TargetCosine` reports."""
    images = total['images']
    cosine = total['cosine'] / images
    # The constant vector with the best mean cosine to unit vectors has their mean's direction, and that
    # best mean cosine is the length of their mean.
    constant = (total['unit_targets'] / images).norm(dim=-1).mean()
    values = dict(
        cosine=cosine,
        visible=total['visible'] / total['num_visible'],
        masked=total['masked'] / total['num_masked'],
        constant=constant,
        excess=cosine - constant,
        shuffled=total['shuffled'] / images,
    )
    if 'cls' in total:
        values['cls'] = total['cls'] / images
    return {name: value.item() for name, value in values.items()}


def excesses(total: dict[str, Tensor]) -> dict[str, float]:
    """Turn the sums over all images into cosine, constant and excess of each kind of token.

    The constant of masked tokens is the best mean cosine to them that one vector a position reaches, which is
    the direction of the mean unit target over the images in which that position is masked.
    """
    masked = total['unit_masked_targets']
    patches = total['unit_targets'][-len(masked) :]
    kinds = dict(visible=(total['num_visible'], patches - masked), masked=(total['num_masked'], masked))
    if 'cls' in total:
        kinds['cls'] = total['images'], total['unit_targets'][:1]
    found: dict[str, float] = {}
    for kind, (number, units) in kinds.items():
        if number:
            cosine, constant = (total[kind] / number).item(), (units.norm(dim=-1).sum() / number).item()
            found |= {f'{kind}_cosine': cosine, f'{kind}_constant': constant}
            found[f'{kind}_excess'] = cosine - constant
    return found
