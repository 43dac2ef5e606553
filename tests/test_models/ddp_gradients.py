"""Run by torchrun in two processes: print whether DDP's gradients equal those of the joined batch."""

import sys

import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmpretrain.registry import MODELS

import mvp_mm  # noqa: F401


def build(clip_config: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='MVP',
            backbone=dict(
                type='MVPViT',
                arch=dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=96),
                img_size=32,
                patch_size=8,
                use_rel_pos_bias=False,
                use_shared_rel_pos_bias=True,
                final_norm=True,
                out_type='raw',
            ),
            neck=dict(type='MVPNeck', in_channels=48, out_channels=24),
            target_generator=dict(
                type='CLIPTargetGenerator', model_name=clip_config, pretrained=None, patch_size=8
            ),
        )
    )


def main() -> None:
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(8, 3, 32, 32, generator=generator)
    mask = torch.zeros(8, 16, dtype=torch.bool)
    mask[:, :6] = True
    mask = mask.view(8, 4, 4)

    whole = build(sys.argv[1])
    whole.loss(images, mask=mask)['loss'].backward()
    # find_unused_parameters stays off: every parameter must take part
    parallel = MMDistributedDataParallel(build(sys.argv[1]), find_unused_parameters=False)
    half = slice(4 * rank, 4 * rank + 4)
    for _ in range(2):  # a second pass fails if the first left a parameter without a gradient
        parallel.zero_grad()
        parallel(images[half], mask=mask[half], mode='loss')['loss'].backward()
    grads = dict(parallel.module.named_parameters())
    worst = max((p.grad - grads[name].grad).abs().max().item() for name, p in whole.named_parameters())
    scale = max(p.grad.abs().max().item() for p in whole.parameters())
    names = [name for name, _ in parallel.named_parameters() if 'target_generator' in name]
    print(f'RESULT rank={rank} worst={worst:.3e} scale={scale:.3e} teacher_parameters={len(names)}')
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
