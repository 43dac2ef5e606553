"""What can be told of a pre-training without labels: agreement with the teacher, rank, reach of attention.

Shape legend: B batch, M patches, C or D width of a token, L tokens with CLS first.
"""

from contextlib import suppress
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from mmpretrain.registry import EVALUATORS
from torch import Tensor, nn

from ..models.student import student_of
from ..weights.bias_tables import Grid
from .evaluator import Evaluator
from .target_cosine import excesses, token_sums

# Share of the tokens' mean square below which a variance is rounding, as that of collapsed tokens.
ROUNDING = 1e-12


@EVALUATORS.register_module()
class Alignment(Evaluator):
    """Label-free quantities of a pre-training run: watch them instead of the loss.

    Works for any algorithm. Reported, where there is such a part (``predict``, which returns predicted and
    target tokens, a CLS token, a :class:`.Student`, one with ``blockwise``):

    * ``cls_cosine``, ``cls_constant``, ``cls_excess``, and so for ``visible`` and ``masked`` patches: the
      mean cosine of predictions and targets, the cosine of the best constant predictor, and the difference.
      The constant has a vector for each position, the best for the images in which that position is visible,
      or masked: with few images it flatters itself.
    * ``cls_rank`` and ``patch_rank`` of the student's tokens of whole images, ``target_cls_rank`` and
      ``target_patch_rank`` of the teacher's: :func:`effective_rank`, at most the number of tokens less one.
    * ``attention_distance_<layer>``: :func:`attention_distance` of the student on whole images, in pixels.

    Args:
        dataloader: Images with masks, as the training pipeline packs them.
        **kwargs: See :class:`Evaluator`. The default ``prefix`` is ``'alignment'``.
    """

    default_prefix = 'alignment'

    def require(self, model: nn.Module) -> None:
        """Refuse a model that has neither predictions nor a student."""
        if not hasattr(model, 'predict'):
            student_of(model)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Look at the predictions, the student and the targets."""
        total = self.total(self._sums(model, batch) for batch in self.batches(model, self.dataloader))
        found = excesses(total) if 'unit_targets' in total else {}
        for name, value in total.items():
            if name.endswith('_rank.number'):
                rank = name.removesuffix('.number')
                found[rank] = effective_rank(value, total[f'{rank}.first'], total[f'{rank}.second'])
            elif name.startswith('attention_distance_'):
                found[name] = (value / total['images']).item()
        return found

    def _sums(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        images, mask = batch['inputs'], batch.get('mask')
        sums = dict(images=torch.tensor(len(images)))
        tokens: dict[str, Tensor | None] = {}
        if hasattr(model, 'predict'):
            predictions, targets = model(images, mask=mask, mode='predict')
            sums = token_sums(predictions, targets, mask)
            extra = targets.shape[1] - mask.flatten(1).shape[1]
            tokens = dict(target_cls=targets[:, 0] if extra else None, target_patch=targets[:, extra:])
        student: Any = None
        with suppress(ValueError):  # a network of another library
            student = student_of(model)
        if student is not None:
            tokens['cls'], tokens['patch'] = student.encode_image(images)
        for name, values in tokens.items():
            if values is not None:
                sums |= {f'{name}_rank.{part}': value for part, value in moments(values).items()}
        if hasattr(student, 'blockwise') and not is_model_wrapper(model):  # whose blocks are in pieces
            grid = images.shape[-2] // student.patch_size, images.shape[-1] // student.patch_size
            for layer, (attention, _) in enumerate(student.blockwise(images)):
                distance = attention_distance(attention, grid, student.patch_size)
                sums[f'attention_distance_{layer}'] = distance.double().sum()
        return sums


def moments(tokens: Tensor) -> dict[str, Tensor]:
    """Sum over tokens ``(..., C)`` what :func:`effective_rank` needs, in float64."""
    tokens = tokens.flatten(0, -2).double()
    number = torch.tensor(float(len(tokens)), dtype=torch.float64)
    return dict(number=number, first=tokens.sum(0), second=tokens.T @ tokens)


def effective_rank(number: Tensor, first: Tensor, second: Tensor) -> float:
    """Compute how many directions tokens fill: exp of the entropy of their covariance's eigenvalues.

    Roy and Vetterli (2007), of the covariance: its eigenvalues, divided by their sum, are the probabilities.
    RankMe (Garrido et al., 2023) takes the singular values of tokens that are not centred, and then a mean
    that all share counts as a direction. Equal variance everywhere has rank C, a line 1, a point 0.

    It takes the number of tokens, their sum ``(C,)`` and the sum of their outer products ``(C, C)``.
    """
    mean, second = first.cpu() / number.cpu(), second.cpu() / number.cpu()
    spectrum = torch.linalg.eigvalsh(second - torch.outer(mean, mean))
    spectrum = spectrum.where(spectrum > ROUNDING * second.trace(), 0.0)
    if not spectrum.any():
        return 0.0
    return torch.special.entr(spectrum / spectrum.sum()).sum().exp().item()


def attention_distance(attention: Tensor, grid: Grid, patch_size: int) -> Tensor:
    """Compute how far away patches are that patches look at: ``(B,)``, in pixels.

    As Dosovitskiy et al. (2021, Figure 7): the distance of centres, weighted by attention, averaged over
    queries and heads. CLS neither looks nor is looked at: weights are those among patches, made to sum to 1.

    Args:
        attention: Probabilities ``(B, heads, L, L)``; the M patches come last.
        grid: Patches ``(h, w)``.
        patch_size: Side of a patch in pixels.
    """
    rows, columns = (torch.arange(side, dtype=torch.float32, device=attention.device) for side in grid)
    centres = patch_size * torch.cartesian_prod(rows, columns)
    distances = (centres[:, None] - centres).norm(dim=-1)
    among = attention[..., -len(centres) :, -len(centres) :].float()
    reach = (among * distances).sum(-1) / among.sum(-1).clamp(min=torch.finfo(torch.float32).tiny)
    return reach.flatten(1).mean(1)
