"""Stage 4: loss and gradients of the student, float32 on the GPU beside the CPU, and bf16 beside float32."""

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..pretrain_variants import CONFIGS, Eager, blockwise_masks
from .measure import BF16, CUDA, cosine, relative
from .report import Report


def run(report: Report, scale: str) -> None:
    """Compare one batch's loss and gradients, without drop path."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    batch = 8 if scale == 'full' else 1
    model = student()
    images, mask = torch.randn(batch, 3, 224, 224), blockwise_masks(batch)
    targets = model.extract_targets(images)
    exact_loss, exact = loss_and_gradients(model, images, mask, targets)
    model.to(CUDA)
    on_gpu = [tensor.to(CUDA) for tensor in (images, mask, targets)]
    loss, gradients = loss_and_gradients(model, *on_gpu)
    report.at_most('float32, GPU against CPU: difference of the loss', abs(loss - exact_loss), 1e-5)
    apart = {name: relative(gradients[name], exact[name]) for name in exact}
    worst = max(apart, key=apart.get)
    report.at_most(f'float32: relative difference of a gradient, largest ({worst})', apart[worst], 1e-3)
    with torch.autocast('cuda', dtype=BF16):
        half_loss, half = loss_and_gradients(model, *on_gpu)
    report.at_most('bf16 against float32 on the GPU: difference of the loss', abs(half_loss - loss), 2e-3)
    whole = cosine(joined(half), joined(gradients))
    report.at_least('bf16 against float32: cosine of all gradients', whole, 0.995)
    tables = [name for name in gradients if name.endswith('relative_position_bias_table')]
    for name in tables:
        report.at_least(
            "bf16 against float32: cosine of the bias table's gradient",
            cosine(half[name], gradients[name]),
            0.995,
        )


def student() -> nn.Module:
    """``vitb16_in1k`` with a random teacher and random bias tables, without drop path, in training mode."""
    init_default_scope('mmpretrain')
    cfg = Config.fromfile(CONFIGS / 'mvp' / 'vitb16_in1k.py')
    cfg.merge_from_dict(
        {
            'model.target_generator.pretrained': None,
            'model.backbone.drop_path_rate': 0.0,
            **Eager.options,
        }
    )
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    randomise_tables(model)
    return model


@torch.no_grad()
def randomise_tables(model: nn.Module) -> None:
    """Bias tables as those of a trained student, where zeros would hide what is wrong."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith('relative_position_bias_table'):
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))


def loss_and_gradients(
    model: nn.Module, images: Tensor, mask: Tensor, targets: Tensor
) -> tuple[float, dict[str, Tensor]]:
    """Eq. 9 and its gradients by parameter, on the CPU."""
    model.zero_grad(set_to_none=True)
    loss = model.loss_module(model.predict_tokens(images, mask), targets, mask)
    loss.backward()
    gradients = {
        name: parameter.grad.detach().cpu().clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    return loss.item(), gradients


def joined(gradients: dict[str, Tensor]) -> Tensor:
    """All as one vector."""
    return torch.cat([gradient.flatten() for gradient in gradients.values()])
