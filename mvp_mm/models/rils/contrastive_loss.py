"""Images and sentences of all processes against one another (RILS's L_con, CLIP's loss)."""

import torch
from mmengine.dist import all_gather, all_reduce, get_rank, get_world_size
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather as all_gather_with_grad
from torch.nn import functional as F


def gather(tensor: Tensor, with_grad: bool) -> Tensor:
    """Join the tensors ``(B, ...)`` of all processes to ``(N, ...)``, in the order of their ranks.

    With ``with_grad`` each process gets the gradients of all losses; without, the result is a constant. A
    single process gets its own tensor back, with its gradient.
    """
    if get_world_size() == 1:
        return tensor
    return torch.cat(list(all_gather_with_grad(tensor) if with_grad else all_gather(tensor.detach())))


def unit(vectors: Tensor) -> Tensor:
    """L2-normalise the last dimension, in float32 at least."""
    return F.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=-1)


def mean_over_ranks(value: Tensor) -> Tensor:
    """Return the processes' mean of a scalar, whose gradient stays this process's own."""
    if get_world_size() == 1:
        return value
    mean = value.detach().clone()
    all_reduce(mean, 'mean')
    return value + (mean - value.detach())


@MODELS.register_module()
class ContrastiveLoss(nn.Module):
    """``(image -> text + text -> image cross-entropy) / 2`` over the pairs of all processes.

    Each process compares its own B images and texts with all N: ``B * N`` logits twice, never ``N * N``. The
    value is the joined batch's on every process, and so is the gradient once DDP has averaged it.

    Args:
        gather_with_grad: Let gradients reach the embeddings of other processes. Default True, as open_clip.
            False, the authors': gathered embeddings are constants, each process has a loss of its own, and
            the gradient depends on the number of processes.
    """

    def __init__(self, gather_with_grad: bool = True) -> None:
        super().__init__()
        self.gather_with_grad = gather_with_grad

    def forward(self, image_embed: Tensor, text_embed: Tensor, logit_scale: Tensor | float) -> Tensor:
        """Compute the loss in float32 at least, also under autocast.

        Args:
            image_embed, text_embed: ``(B, D)``, of this process's B pairs, as many on all; normalised here.
            logit_scale: Factor of the cosines, CLIP's inverse temperature.
        """
        if image_embed.shape != text_embed.shape or image_embed.ndim != 2:
            raise ValueError(
                f'expected pairs of embeddings (B, D), got images {tuple(image_embed.shape)} and texts '
                f'{tuple(text_embed.shape)}'
            )
        with torch.autocast(image_embed.device.type, enabled=False):
            images, texts = unit(image_embed), unit(text_embed)
            all_images, all_texts = (gather(part, self.gather_with_grad) for part in (images, texts))
            labels = torch.arange(len(images), device=images.device) + get_rank() * len(images)
            of_images = F.cross_entropy(logit_scale * images @ all_texts.T, labels)
            of_texts = F.cross_entropy(logit_scale * texts @ all_images.T, labels)
            loss = (of_images + of_texts) / 2
            return mean_over_ranks(loss) if self.gather_with_grad else loss
