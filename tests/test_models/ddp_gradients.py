"""Run by torchrun in two processes: write how DDP's losses and gradients differ from the joined batch's."""

import copy
import json
import sys
from pathlib import Path

import open_clip
import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

import mvp_mm  # noqa: F401

WORDS = ['a', 'red', 'blue', 'star', 'ring']
CAPTIONS = ['a red star', 'blue ring', 'a star', 'red', 'a blue star', 'ring', 'a red ring', 'blue star']


def clip_config(folder: Path) -> str:
    vision = dict(image_size=32, patch_size=8, width=32, layers=2, head_width=16)
    text = dict(context_length=8, vocab_size=8, width=16, heads=2, layers=1)
    text['tokenizer_kwargs'] = dict(words=WORDS)
    path = folder / f'ddp{dist.get_rank()}.json'
    path.write_text(json.dumps(dict(embed_dim=24, vision_cfg=vision, text_cfg=text)))
    return str(path)


def mvp(config: str) -> torch.nn.Module:
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
                type='CLIPTargetGenerator', model_name=config, pretrained=None, patch_size=8
            ),
        )
    )


def compared(whole: torch.nn.Module, loss: torch.Tensor, split: torch.nn.Module, *args, **kwargs) -> dict:
    """Differences of ``split`` under DDP, on this process's part, from ``whole`` with its ``loss``."""
    loss.backward()
    # find_unused_parameters stays off: every parameter must take part
    parallel = MMDistributedDataParallel(split, find_unused_parameters=False)
    for _ in range(2):  # a second pass fails if the first left a parameter without a gradient
        parallel.zero_grad()
        own = parallel(*args, mode='loss', **kwargs)['loss']
        own.backward()
    found = dict(split.named_parameters())
    pairs = [(value.grad, found[name].grad) for name, value in whole.named_parameters()]
    return dict(
        loss=abs(own.item() - loss.item()),
        gradient=max((one - other).abs().max().item() for one, other in pairs),
        scale=max(one.abs().max().item() for one, _ in pairs),
        teacher_parameters=sum('target_generator' in name for name in found),
    )


def main() -> None:
    dist.init_process_group('gloo')
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(8, 3, 32, 32, generator=generator)
    mask = torch.zeros(8, 16, dtype=torch.bool)
    mask[:, :6] = True
    mask = mask.view(8, 4, 4)
    half = slice(4 * dist.get_rank(), 4 * dist.get_rank() + 4)
    config = clip_config(Path(sys.argv[1]))

    whole = mvp(config)
    loss = whole.loss(images, mask=mask)['loss']
    results = dict(MVP=compared(whole, loss, mvp(config), images[half], mask=mask[half]))

    torch.manual_seed(0)
    images = images.double()  # the temperature makes gradients large
    split = MODELS.build(dict(type='OpenCLIP', model_name=config)).double()
    whole, alone = copy.deepcopy(split), open_clip.ClipLoss()
    loss = alone(*whole.clip(images, whole.tokenizer(CAPTIONS)))
    with torch.no_grad():
        loss_of_half = alone(*whole.clip(images[half], whole.tokenizer(CAPTIONS[half])))
    samples = [DataSample(metainfo=dict(caption=caption)) for caption in CAPTIONS[half]]
    results['CLIP'] = compared(whole, loss, split, images[half], samples)
    results['CLIP']['loss_of_half'] = abs(loss_of_half.item() - loss.item())
    (Path(sys.argv[1]) / f'found{dist.get_rank()}.json').write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
