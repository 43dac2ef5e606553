import pytest
import timm
import torch
from mmpretrain.models.backbones import BEiTViT
from mmpretrain.models.selfsup import BEiTPretrainViT
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mvp_mm.models import MVPViT

ARCH = dict(embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=96)
PRETRAIN = dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True, final_norm=True, out_type='raw')


def randomised(model):
    """Give every float entry of the state dict a random value, so that no zero hides a mistake."""
    generator = torch.Generator().manual_seed(0)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.2)
    return model.eval()


def inputs(size=32, patch=8, batch=2):
    generator = torch.Generator().manual_seed(1)
    grid = size // patch
    return (
        torch.randn(batch, 3, size, size, generator=generator),
        torch.rand(batch, grid, grid, generator=generator) < 0.5,
    )


def test_pretraining_mode_exchanges_weights_with_mmpretrain():
    ours = randomised(MVPViT(ARCH, img_size=32, patch_size=8, **PRETRAIN))
    peer = BEiTPretrainViT(ARCH, img_size=32, patch_size=8)
    peer.eval()  # mmpretrain's returns None
    peer.load_state_dict(ours.state_dict(), strict=True)
    ours.load_state_dict(peer.state_dict(), strict=True)
    images, mask = inputs()
    assert (ours(images, mask)[0] - peer(images, mask)[0]).abs().max() < 1e-5
    assert (ours(images)[0] - peer(images, None)[0]).abs().max() < 1e-5


@pytest.mark.parametrize(
    'mode',
    [
        dict(out_type='avg_featmap'),
        dict(out_type='cls_token', final_norm=True),
        dict(out_type='featmap', out_indices=[0, 1, 2]),
        dict(out_type='raw', use_rel_pos_bias=False, use_abs_pos_emb=True, layer_scale_init_value=0),
        dict(out_type='raw', bias=True),
    ],
)
def test_downstream_modes_exchange_weights_with_mmpretrain(mode):
    ours = randomised(MVPViT(ARCH, img_size=32, patch_size=8, **mode))
    peer = BEiTViT(ARCH, img_size=32, patch_size=8, **mode)
    peer.eval()
    peer.load_state_dict(ours.state_dict(), strict=True)
    ours.load_state_dict(peer.state_dict(), strict=True)
    images, _ = inputs()
    for mine, theirs in zip(ours(images), peer(images), strict=True):
        assert mine.shape == theirs.shape
        assert (mine - theirs).abs().max() < 1e-5


TO_TIMM = {
    'patch_embed.projection.': 'patch_embed.proj.',
    '.ln1.': '.norm1.',
    '.ln2.': '.norm2.',
    '.ffn.layers.0.0.': '.mlp.fc1.',
    '.ffn.layers.1.': '.mlp.fc2.',
}


def timm_beit(ours):
    """timm's BEiT with the weights of ``ours``."""
    beit = timm.models.beit.Beit(
        img_size=32,
        patch_size=8,
        embed_dim=ARCH['embed_dims'],
        depth=ARCH['num_layers'],
        num_heads=ARCH['num_heads'],
        mlp_ratio=2,
        init_values=0.1,
        use_abs_pos_emb=False,
        use_rel_pos_bias=False,
        use_shared_rel_pos_bias=True,
        global_pool='token',
        num_classes=0,
    ).eval()
    state = {}
    for key, value in ours.state_dict().items():
        if key == 'mask_token' or key.endswith('relative_position_index'):
            continue
        if key.startswith('ln1.'):
            key = key.replace('ln1', 'norm')
        for mine, theirs in TO_TIMM.items():
            key = key.replace(mine, theirs)
        state[key.replace('layers.', 'blocks.', 1)] = value
    missing, unexpected = beit.load_state_dict(state, strict=False)
    assert not unexpected
    assert all('relative_position_index' in key or 'k_bias' in key for key in missing), missing
    return beit


def test_forward_equals_timms_beit():
    ours = randomised(MVPViT(ARCH, img_size=32, patch_size=8, layer_scale_init_value=0.1, **PRETRAIN))
    beit = timm_beit(ours)
    images, mask = inputs()
    assert (ours(images)[0] - beit.forward_features(images)).abs().max() < 1e-4
    # masked: put the mask token in before timm's blocks
    tokens = beit.patch_embed(images)
    tokens = torch.where(mask.flatten(1)[..., None], ours.mask_token, tokens)
    tokens = torch.cat([beit.cls_token.expand(len(images), -1, -1), tokens], dim=1)
    shared = beit.rel_pos_bias()
    for block in beit.blocks:
        tokens = block(tokens, shared_rel_pos_bias=shared)
    assert (ours(images, mask)[0] - beit.norm(tokens)).abs().max() < 1e-4


@pytest.mark.parametrize(
    'name,width,depth,heads',
    [('tiny', 192, 12, 3), ('small', 384, 12, 6), ('base', 768, 12, 12), ('large', 1024, 24, 16)],
)
def test_architectures(name, width, depth, heads):
    with torch.device('meta'):
        model = MVPViT(name, **PRETRAIN)
    # a block: qkv, proj, mlp; biases of q, v, proj, mlp; two norms; layer scale
    block = 12 * width**2 + (2 + 1 + 5 + 4 + 2) * width
    embeddings = 16 * 16 * 3 * width + width + 2 * width
    table = (27 * 27 + 3) * heads
    expected = depth * block + embeddings + 2 * width + table
    assert sum(p.numel() for p in model.parameters()) == expected


def test_recipe_of_the_students():
    model = MVPViT('tiny', layer_scale_init_value=0.1, drop_path_rate=0.1, **PRETRAIN)
    rates = [layer.drop_path.drop_prob for layer in model.layers]
    assert rates == pytest.approx([0.1 * i / 11 for i in range(12)])
    assert all(layer.ln1.eps == 1e-6 for layer in model.layers) and model.ln1.eps == 1e-6
    assert model.rel_pos_bias.relative_position_bias_table.shape == (27 * 27 + 3, 3)
    assert not model.rel_pos_bias.relative_position_bias_table.any()
    assert model.layers[0].gamma_1.unique().tolist() == pytest.approx([0.1])
    assert model.pos_embed is None and not hasattr(model.layers[0].attn.qkv, 'k_bias')
    assert model.layers[0].attn.qkv.bias is None
    for token in (model.cls_token, model.mask_token, model.layers[5].attn.qkv.weight):
        assert token.abs().max() <= 0.02
    assert model.layers[5].attn.qkv.weight.std().item() == pytest.approx(0.0108, abs=2e-4)
    for depth in (1, 6, 12):  # divided by sqrt(2 * depth)
        bound = 0.02 / (2 * depth) ** 0.5
        layer = model.layers[depth - 1]
        for weight in (layer.attn.proj.weight, layer.ffn.layers[1].weight):
            assert bound * 0.98 < weight.abs().max() <= bound * 1.0001


@pytest.mark.parametrize('shared', [True, False])
def test_other_sizes(shared):
    flags = dict(use_rel_pos_bias=not shared, use_shared_rel_pos_bias=shared)
    model = randomised(MVPViT(ARCH, img_size=32, patch_size=8, out_type='featmap', **flags))
    for height, width in ((48, 48), (16, 56), (30, 41)):
        (featmap,) = model(torch.randn(2, 3, height, width))
        assert featmap.shape == (2, 48, -(-height // 8), -(-width // 8))
        assert featmap.isfinite().all()


def test_gradient_checkpointing_changes_nothing():
    images, mask = inputs()
    grads = []
    for with_cp in (False, True):
        model = randomised(MVPViT(ARCH, img_size=32, patch_size=8, with_cp=with_cp, **PRETRAIN)).train()
        model(images, mask)[0].square().mean().backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    for name, grad in grads[0].items():
        assert torch.allclose(grad, grads[1][name], atol=1e-6), name


@pytest.mark.parametrize('mode', [PRETRAIN, dict(), dict(out_type='featmap', out_indices=[0, 2])])
def test_every_parameter_gets_a_gradient(mode):
    model = MVPViT(ARCH, img_size=32, patch_size=8, **mode)
    images, mask = inputs()
    outs = model(images, mask) if model.mask_token is not None else model(images)
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_frozen_stages():
    model = MVPViT(ARCH, img_size=32, patch_size=8, frozen_stages=2, drop_path_rate=0.3).train()
    trainable = {
        name.split('.')[1] for name, p in model.named_parameters() if p.requires_grad and 'layers' in name
    }
    assert trainable == {'2'}
    assert not model.layers[1].training and model.layers[2].training
    assert not any(p.requires_grad for p in model.patch_embed.parameters())
    embedded = MVPViT(ARCH, img_size=32, patch_size=8, frozen_stages=0)
    assert not any(p.requires_grad for p in embedded.patch_embed.parameters())
    assert all(p.requires_grad for p in embedded.layers.parameters())
    frozen = MVPViT(ARCH, img_size=32, patch_size=8, frozen_stages=3, **PRETRAIN)
    assert not any(p.requires_grad for p in frozen.parameters())


def test_modes_return_self():
    model = MVPViT(ARCH, img_size=32, patch_size=8)
    assert model.eval() is model and model.train() is model


def test_layer_depth():
    model = MVPViT(ARCH, img_size=32, patch_size=8, **PRETRAIN)
    depths = {
        'backbone.cls_token': 0,
        'backbone.mask_token': 0,
        'backbone.patch_embed.projection.weight': 0,
        'backbone.layers.0.attn.qkv.weight': 1,
        'backbone.layers.2.attn.relative_position_bias_table': 3,
        'backbone.ln1.weight': 4,
        'backbone.rel_pos_bias.relative_position_bias_table': 4,
        'neck.fc.weight': 4,
    }
    for name, depth in depths.items():
        assert model.get_layer_depth(name, 'backbone.') == (depth, 5), name


def test_errors():
    model = MVPViT(ARCH, img_size=32, patch_size=8, **PRETRAIN)
    images, mask = inputs()
    for wrong in (mask[:, :3], mask[:1], mask.flatten(1)[:, :15], mask[:, None], mask.flatten(), mask[0]):
        shape = str(tuple(wrong.shape)).replace('(', r'\(').replace(')', r'\)')
        with pytest.raises(ValueError, match=rf'mask of shape {shape} .* \(2, 4, 4\).* flat \(2, 16\)'):
            model(images, wrong)
    with pytest.raises(ValueError, match='with_mask_token=True'):
        MVPViT(ARCH, img_size=32, patch_size=8)(images, mask)
    for wrong, match in [
        (dict(arch='huge'), 'huge'),
        (dict(arch=dict(embed_dims=8)), 'num_layers'),
        (dict(arch=ARCH, out_type='tokens'), 'tokens'),
        (dict(arch=ARCH, out_indices=3), '3 blocks'),
        (dict(arch=ARCH, frozen_stages=4), r'\[-1, 3\]'),
        (dict(arch=ARCH, use_shared_rel_pos_bias=True), 'exclude each other'),
        (dict(arch=ARCH, with_cls_token=False), 'with_cls_token=False'),
        (dict(arch={**ARCH, 'num_heads': 5}), 'does not divide'),
    ]:
        with pytest.raises(ValueError, match=match):
            MVPViT(img_size=32, patch_size=8, **wrong)


def test_a_flat_mask_as_mmpretrains_algorithms_send_it():
    model = randomised(MVPViT(ARCH, img_size=32, patch_size=8, **PRETRAIN))
    images, mask = inputs()
    expected = model(images, mask)[0]
    assert torch.equal(model(images, mask.flatten(1))[0], expected)
    assert torch.equal(model(images, mask.flatten(1).long())[0], expected)


def test_mmpretrains_beit_trains_it():
    """BEiT's algorithm and head, with the mask as its pipeline draws it and flattened."""
    torch.manual_seed(0)
    backbone = dict(type='MVPViT', arch=ARCH, img_size=32, patch_size=8, **PRETRAIN)
    algorithm = MODELS.build(
        dict(
            type='mmpretrain.BEiT',
            backbone=backbone,
            neck=None,
            head=dict(
                type='BEiTV1Head',
                embed_dims=48,
                num_embed=16,
                loss=dict(type='CrossEntropyLoss'),
            ),
            target_generator=None,
        )
    ).train()
    # Logits of the visual tokens (B, 16, h, w): a different one is the largest at each patch.
    algorithm.target_generator = lambda images: torch.eye(16).reshape(1, 16, 4, 4).expand(2, -1, -1, -1)
    images, mask = inputs()
    losses = []
    for each in (mask, mask.flatten(1)):
        samples = [DataSample(mask=row) for row in each]
        losses.append(algorithm.loss([images, images], samples)['loss'])
    assert torch.equal(*losses)
    tokens = algorithm.backbone(images, mask)[0][:, 1:]
    logits = algorithm.head.cls_head(tokens[mask.flatten(1)])
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(16).expand(2, 16)[mask.flatten(1)])
    assert torch.allclose(losses[0], expected)


@pytest.mark.slow
@pytest.mark.parametrize('flat', [False, True])
def test_exported_with_a_mask_and_a_free_batch(flat):
    model = randomised(MVPViT(ARCH, img_size=32, patch_size=8, **PRETRAIN))
    batch = torch.export.Dim('batch')

    def example(count):
        images, mask = inputs(batch=count)
        return images, mask.flatten(1) if flat else mask

    program = torch.export.export(model, example(3), dynamic_shapes=({0: batch}, {0: batch})).module()
    with torch.no_grad():
        for count in (1, 2, 5):
            assert torch.allclose(program(*example(count))[0], model(*example(count))[0], atol=1e-6)


PLAIN = dict(use_rel_pos_bias=False, layer_scale_init_value=0, out_type='raw', final_norm=True)


def test_visible_patches_alone():
    """What is dropped has no part in the rest: as if attention could not see it."""
    torch.manual_seed(0)
    vit = MVPViT(ARCH, 32, 8, use_abs_pos_emb='sincos', **PLAIN).eval()
    images = torch.randn(3, 3, 32, 32)
    mask = torch.rand(3, 16).argsort(1) >= 4
    found = vit.encode_visible(images, mask.view(3, 4, 4))
    hidden = F.pad(mask, (1, 0))[:, None, None]
    tokens, grid, _ = vit.embed(images)
    for layer in vit.layers:
        bias = torch.zeros(3, 1, 1, 17).masked_fill(hidden, float('-inf'))
        tokens = layer(tokens, grid, bias)
    expected = vit.ln1(tokens)[~hidden[:, 0, 0]].view(3, 5, -1)
    assert torch.allclose(found, expected, atol=1e-5)
    nothing = torch.zeros_like(mask)
    assert torch.allclose(vit.encode_visible(images, nothing), vit(images)[0], atol=1e-5)
    assert not vit.pos_embed.requires_grad


def test_a_masked_pass_costs_a_quarter():
    vit = MVPViT('tiny', 224, 16, use_abs_pos_emb=True, **PLAIN)
    images, mask = vit.example_inputs(1)[0], torch.arange(196)[None] >= 49
    costs = []
    for run in (lambda: vit(images), lambda: vit.encode_visible(images, mask)):
        with FlopCounterMode(display=False) as counter:
            run()
        costs.append(counter.get_total_flops())
    assert 0.2 < costs[1] / costs[0] < 0.28  # the patch embedding sees all patches


def test_dropping_needs_absolute_positions():
    images, mask = torch.zeros(2, 3, 32, 32), torch.ones(2, 16, dtype=torch.bool)
    with pytest.raises(ValueError, match='dropping patches needs absolute positions and no others'):
        MVPViT(ARCH, 32, 8).encode_visible(images, mask)
    vit = MVPViT(ARCH, 32, 8, use_abs_pos_emb=True, **PLAIN)
    with pytest.raises(ValueError, match='0 to 0 patches of an image are visible'):
        vit.encode_visible(images, mask)
    with pytest.raises(ValueError, match=r'mask of shape \(2, 9\)'):
        vit.encode_visible(images, mask[:, :9])
    with pytest.raises(ValueError, match="use_abs_pos_emb='fixed' is none of"):
        MVPViT(ARCH, 32, 8, use_abs_pos_emb='fixed')
