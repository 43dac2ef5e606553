"""Students to export: each stage of training, with random weights and trained for a few steps."""

import pytest
import torch
from torch import nn

from mvp_mm.models import MVPLoss, MVPViT

ARCH = dict(embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=192)
SIZE = 40
STAGES = {
    'pretraining': dict(
        use_rel_pos_bias=False, use_shared_rel_pos_bias=True, final_norm=True, out_type='raw'
    ),
    'classification': dict(out_type='avg_featmap'),
    'segmentation': dict(out_type='featmap', out_indices=(0, 1, 2)),
}
CLASSES = 5


def all_arguments(stage='pretraining', **changes):
    return {**dict(arch=ARCH, img_size=SIZE, patch_size=8), **STAGES[stage], **changes}


def build(stage='pretraining', **changes):
    return MVPViT(**all_arguments(stage, **changes)).eval()


def randomise(vit):
    """Random values everywhere, of a size at which a swapped or forgotten table shows."""
    torch.manual_seed(0)
    for name, value in vit.state_dict().items():
        if value.is_floating_point():
            value.normal_(std=1.0 if name.endswith('table') else 0.2)
            if name.endswith(('ln1.weight', 'ln2.weight')):
                value.add_(1)
    return vit


@torch.enable_grad()
def train(vit, steps=6):
    """A few steps of Eq. 9 towards fixed random targets, from this package's initialisation."""
    torch.manual_seed(0)
    images, targets = torch.randn(4, 3, SIZE, SIZE), torch.randn(4, 26, 48)
    mask = torch.rand(4, 5, 5) < 0.4 if vit.mask_token is not None else None
    optimizer = torch.optim.AdamW(vit.parameters(), lr=1e-2)
    vit.train()
    for _ in range(steps):
        out = vit(images, mask)[-1]
        if out.ndim == 4:
            out = out.flatten(2).transpose(1, 2)
        target = targets[:, : out.shape[1]] if out.ndim == 3 else targets[:, 0]
        loss = MVPLoss()(out.unsqueeze(1), target.unsqueeze(1)) if out.ndim == 2 else MVPLoss()(out, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    tables = [value for name, value in vit.named_parameters() if name.endswith('table')]
    assert tables and all(table.abs().max() > 1e-3 for table in tables)
    return vit.eval()


def save(vit, path, stage):
    """A checkpoint as training writes it."""
    torch.manual_seed(1)
    state = {f'backbone.{name}': value for name, value in vit.state_dict().items()}
    if stage == 'pretraining':
        state['neck.fc.weight'] = torch.randn(8, 48)
    elif stage == 'classification':
        state |= {'head.fc.weight': torch.randn(CLASSES, 48), 'head.fc.bias': torch.randn(CLASSES)}
    else:
        state['decode_head.conv_seg.weight'] = torch.randn(CLASSES, 48, 1, 1)
    torch.save(dict(meta=dict(epoch=1), state_dict=state), path)
    return str(path)


@pytest.fixture
def checkpoint(tmp_path):
    """``checkpoint(stage, weights, **changes)``: the path of a student's checkpoint, and its backbone."""

    def write(stage='pretraining', weights='random', **changes):
        vit = dict(random=randomise, trained=train)[weights](build(stage, **changes))
        return save(vit, tmp_path / f'{stage}.pth', stage), vit

    return write


@pytest.fixture
def arguments():
    """``arguments(stage, **changes)``: those of MVPViT."""
    return all_arguments


@pytest.fixture
def images():
    return torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def expected():
    """``expected(vit, checkpoint, images)``: tokens, features and logits by MVPViT and plain arithmetic."""

    def outputs(vit, path, images):
        state = torch.load(path, weights_only=True)['state_dict']
        raw = MVPViT(**{**dict(arch=ARCH, img_size=SIZE, patch_size=8, out_type='raw'), **_flags(vit)}).eval()
        raw.load_state_dict({k: v for k, v in vit.state_dict().items() if not k.startswith('ln2.')})
        with torch.no_grad():
            tokens = raw(images)[-1]
            outs = {'tokens': tokens}
            if vit.final_norm:
                outs['features'] = tokens[:, 0]
            if hasattr(vit, 'ln2'):
                outs['features'] = vit(images)[-1]
            if 'head.fc.weight' in state:
                weight, bias = state['head.fc.weight'], state['head.fc.bias']
                outs['logits'] = nn.functional.linear(outs['features'], weight, bias)
        return outs

    return outputs


def _flags(vit):
    shared, block = vit.rel_pos_bias is not None, vit.layers[0]
    return dict(
        img_size=tuple(side * vit.patch_size for side in vit.window),
        use_shared_rel_pos_bias=shared,
        use_rel_pos_bias=block.attn.window is not None,
        final_norm=vit.final_norm,
        use_abs_pos_emb=vit.pos_embed is not None,
        with_mask_token=vit.mask_token is not None,
        bias='qv_bias' if block.attn.has_qv_bias else True,
        layer_scale_init_value=0 if block.gamma_1 is None else 0.1,
    )
