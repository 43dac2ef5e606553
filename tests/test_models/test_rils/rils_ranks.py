"""Run by torchrun in two processes: write how RILS's losses and gradients differ from what they should be."""

import copy
import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmpretrain.registry import MODELS
from test_models.test_rils.tiny_rils import batch_of, rils_config, write_text_config
from torch.nn import functional as F

import mvp_mm  # noqa: F401

HALVES = slice(0, 4), slice(4, 8)


def rils(text_encoder, **changes):
    torch.manual_seed(0)
    return MODELS.build(rils_config(text_encoder, **changes)).double()


def authors_losses(model, images, mask, tokens):
    """Each process's loss in the authors' code: what is gathered is constant, means are the process's own."""
    whole = model.backbone(images)[0][:, 1:]
    projection = model.neck.weight.T
    image_embed = F.normalize(whole.mean(1) @ projection, dim=-1)
    text_embed = F.normalize(model.text_encoder.encode(tokens), dim=-1)
    decoded = model.decoder(model.backbone.encode_visible(images, mask), mask)[:, 1:]
    images_all, texts_all = image_embed.detach(), text_embed.detach()
    scale, losses = model.logit_scale.exp(), []
    for half in HALVES:
        labels = torch.arange(8)[half]
        logits = scale * image_embed[half] @ texts_all.T
        contrastive = F.cross_entropy(logits, labels)
        contrastive = (contrastive + F.cross_entropy(scale * text_embed[half] @ images_all.T, labels)) / 2
        teacher = (F.normalize(whole[half] @ projection, dim=-1).detach() @ texts_all.T / 0.04).softmax(-1)
        student = (F.normalize(decoded[half] @ projection, dim=-1) @ texts_all.T / 0.1).log_softmax(-1)
        divergence = F.kl_div(student, teacher, reduction='none').sum(-1)
        counted = mask[half].flatten(1).double() * logits.argmax(-1).eq(labels)[:, None]
        losses.append(contrastive + 0.5 * (divergence * counted).sum() / (counted.sum() + 1e-6))
    return losses


def main() -> None:
    folder = Path(sys.argv[1])
    rank = int(os.environ['RANK'])
    (folder / str(rank)).mkdir()
    text_encoder = write_text_config(folder / str(rank))
    start = rils(text_encoder)
    images, mask, tokens = batch_of(start)
    images = images.double()
    # Until some images find their texts, there is nothing to reconstruct.
    optimizer = torch.optim.AdamW(start.parameters(), lr=2e-3)
    for _ in range(8):
        optimizer.zero_grad()
        sum(v for name, v in start.loss(images, mask, tokens).items() if 'loss' in name).backward()
        optimizer.step()
    # before the processes know of one another
    joined = copy.deepcopy(start)
    losses = joined.loss(images, mask, tokens)
    (losses['loss_contrastive'] + losses['loss_reconstruction']).backward()
    authors = copy.deepcopy(start)
    authors_own = authors_losses(authors, images, mask, tokens)
    (sum(authors_own) / 2).backward()

    dist.init_process_group('gloo')
    found, half = {}, HALVES[rank]
    theirs = dict(
        contrastive_loss=dict(type='ContrastiveLoss', gather_with_grad=False),
        reconstruction_loss=dict(
            type='LanguageReconstructionLoss', text_gradient=True, joint_mean=False, chunk=5
        ),
    )
    for way, options, whole in (('ours', {}, joined), ('authors', theirs, authors)):
        split = rils(text_encoder, **options)
        split.load_state_dict(start.state_dict())
        parallel = MMDistributedDataParallel(split, find_unused_parameters=False)
        for _ in range(2):  # a second pass fails if the first left a parameter without a gradient
            parallel.zero_grad()
            parts = parallel(images[half], mask=mask[half], text=tokens[half], mode='loss')
            (parts['loss_contrastive'] + parts['loss_reconstruction']).backward()
        own = dict(split.named_parameters())
        pairs = [(value.grad, own[n].grad) for n, value in whole.named_parameters() if value.requires_grad]
        total = (parts['loss_contrastive'] + parts['loss_reconstruction']).item()
        found[way] = dict(
            gradient=max((one - other).abs().max().item() for one, other in pairs),
            scale=max(one.abs().max().item() for one, _ in pairs),
            loss=abs(total - authors_own[rank].item()),
            parts=[abs(parts[n].item() - losses[n].item()) for n in losses],
            retrieved=parts['retrieval_accuracy'].item(),
        )
    pairs = [
        pair for pair in zip(joined.parameters(), authors.parameters(), strict=True) if pair[0].requires_grad
    ]
    found['ways differ by'] = max((one.grad - other.grad).abs().max().item() for one, other in pairs)
    (folder / f'found{rank}.json').write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
