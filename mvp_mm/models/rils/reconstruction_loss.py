"""Masked reconstruction in language semantic space (RILS's L_rec), without the whole matrix in memory.

Shape legend: B images, M patches, D joint embedding width, N texts, R rows: masked patches that count.
"""

from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .contrastive_loss import mean_over_ranks, unit

EPS = 1e-6  # added to the number of patches: the authors' code


class _SummedDivergence(torch.autograd.Function):
    """Sum over rows of KL(softmax(target texts' / t) || softmax(prediction texts' / s)), in chunks of rows.

    The gradient of a row's logits is the difference of its two distributions, so it is taken while they are
    at hand: what is kept for the backward pass has the size of the predictions, not of the logits.
    """

    @staticmethod
    def forward(
        ctx: Any, prediction: Tensor, target: Tensor, texts: Tensor, student: float, teacher: float, step: int
    ) -> Tensor:
        total = prediction.new_zeros(())
        of_rows = torch.empty_like(prediction) if ctx.needs_input_grad[0] else None
        of_texts = torch.zeros_like(texts) if ctx.needs_input_grad[2] else None
        for start in range(0, len(prediction), step):
            rows = slice(start, start + step)
            wanted = (target[rows] @ texts.T).div_(teacher).log_softmax(1)
            given = (prediction[rows] @ texts.T).div_(student).log_softmax(1)
            share = wanted.exp()
            total += (wanted.sub_(given)).mul_(share).sum()
            if of_rows is not None or of_texts is not None:
                of_logits = given.exp_().sub_(share).div_(student)
                if of_rows is not None:
                    torch.mm(of_logits, texts, out=of_rows[rows])
                if of_texts is not None:
                    of_texts.addmm_(of_logits.T, prediction[rows])
                del of_logits
            del wanted, given, share  # or they would live beside the next chunk's
        ctx.save_for_backward(of_rows, of_texts)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        of_rows, of_texts = (None if part is None else gradient * part for part in ctx.saved_tensors)
        return of_rows, None, of_texts, None, None, None


@MODELS.register_module()
class LanguageReconstructionLoss(nn.Module):
    """Predict what the batch's sentences say of each masked patch (RILS's L_rec, unweighted).

    A patch's distribution over the texts is the softmax of its cosines, divided by a temperature. The loss is
    the divergence KL(target's || prediction's), summed over the masked patches of the images that find their
    own text, divided by their number + 1e-6. Targets get no gradient.

    Args:
        student_temperature: Of the predictions. Default 0.1 (the authors').
        teacher_temperature: Of the targets. Default 0.04 (the authors').
        text_gradient: Let the texts learn by this loss. Default False. The authors' do on a single GPU only.
        joint_mean: Divide by the number of patches of all processes, so that the value, and the gradient that
            DDP averages, are those of the joined batch. Default True; False, the authors': of this process.
        chunk: Patches whose distributions are in memory at a time, at most. Default 8192.
    """

    def __init__(
        self,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        text_gradient: bool = False,
        joint_mean: bool = True,
        chunk: int = 8192,
    ) -> None:
        super().__init__()
        if min(student_temperature, teacher_temperature) <= 0 or chunk < 1:
            raise ValueError(f'{student_temperature=}, {teacher_temperature=} and {chunk=} must be positive')
        self.temperatures = student_temperature, teacher_temperature
        self.text_gradient, self.joint_mean, self.chunk = text_gradient, joint_mean, chunk

    def forward(
        self, prediction: Tensor, target: Tensor, text_embed: Tensor, mask: Tensor, retrieved: Tensor
    ) -> Tensor:
        """Compute the loss in float32 at least, also under autocast.

        Args:
            prediction, target: ``(B, M, D)``, of decoder and whole images; normalised here, as texts are.
            text_embed: ``(N, D)``, of all processes.
            mask: ``(B, M)`` bool, True = masked.
            retrieved: ``(B,)`` bool, whether the image's own text is its first retrieval.
        """
        if prediction.shape != target.shape or mask.shape != prediction.shape[:2]:
            raise ValueError(
                f'expected predictions and targets (B, M, D) and a mask (B, M), got '
                f'{tuple(prediction.shape)}, {tuple(target.shape)} and {tuple(mask.shape)}'
            )
        rows = mask.bool() & retrieved.bool()[:, None]
        with torch.autocast(prediction.device.type, enabled=False):
            texts = unit(text_embed if self.text_gradient else text_embed.detach())
            total = _SummedDivergence.apply(
                unit(prediction[rows]), unit(target.detach()[rows]), texts, *self.temperatures, self.chunk
            )
            count = rows.sum().to(total.dtype)
            if not self.joint_mean:
                return total / (count + EPS)
            # A process divides by its share of the joined count, as DDP will average the quotients.
            all_reduce(count, 'mean')
            return mean_over_ranks(total / (count + EPS / get_world_size()))
