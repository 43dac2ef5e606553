import pickle
from pathlib import Path

import pytest
import timm
import torch
from mmpretrain.models.backbones import BEiTViT
from mmpretrain.models.selfsup import BEiTPretrainViT
from safetensors.torch import save_file
from torch import nn

from mvp_mm.models import MVPViT
from mvp_mm.models.checkpoint_loading import load_pretrained
from mvp_mm.models.relative_position import resize_table

ARCH = dict(embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=192)
PRETRAIN = dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True, final_norm=True, out_type='raw')
TABLE = 'relative_position_bias_table'


def student(img_size=64, patch_size=8, **kwargs):
    return MVPViT(ARCH, img_size=img_size, patch_size=patch_size, **kwargs)


def randomised(model):
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.normal_()
    return model


def beit_names(state):
    """mmpretrain's names turned into Microsoft's, by hand."""
    renamed = {}
    for name, value in state.items():
        for ours, theirs in (
            ('patch_embed.projection', 'patch_embed.proj'),
            ('ffn.layers.0.0', 'mlp.fc1'),
            ('ffn.layers.1', 'mlp.fc2'),
        ):
            name = name.replace(ours, theirs)
        if name.startswith('layers.'):
            name = (
                name.replace('layers.', 'blocks.', 1).replace('.ln1.', '.norm1.').replace('.ln2.', '.norm2.')
            )
        renamed[name.replace('ln1.', 'norm.') if name.startswith('ln1.') else name] = value
    return renamed


@pytest.fixture
def source():
    torch.manual_seed(0)
    return randomised(student(**PRETRAIN))


def file_of(form, source, folder):
    state = source.state_dict()
    path = folder / 'weights.pth'
    if form == 'whole model':
        named = {f'backbone.{name}': value for name, value in state.items()} | {
            'neck.fc.weight': torch.ones(2)
        }
        torch.save(dict(meta=dict(epoch=3), state_dict=named), path)
    elif form == 'bare backbone':
        torch.save(state, path)
    elif form == 'safetensors':
        path = folder / 'weights.safetensors'
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    elif form == 'mmpretrain':
        peer = BEiTPretrainViT(ARCH, img_size=64, patch_size=8)
        peer.load_state_dict(state)
        torch.save(dict(state_dict={f'backbone.{k}': v for k, v in peer.state_dict().items()}), path)
    elif form == 'without index':
        torch.save({k: v for k, v in state.items() if not k.endswith('index')}, path)
    else:
        torch.save(dict(model=beit_names(state) | {'lm_head.weight': torch.ones(3)}), path)
    return str(path)


FORMS = ['whole model', 'bare backbone', 'safetensors', 'mmpretrain', 'without index', 'Microsoft']


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('size', [64, 96])
def test_every_parameter_arrives(form, size, source, tmp_path):
    """Blocks are equal, the shared table becomes one a block, resized where the grid differs."""
    path = file_of(form, source, tmp_path)
    target = student(
        size,
        out_type='featmap',
        out_indices=[0, 1, 2],
        init_cfg=dict(type='Pretrained', checkpoint=path, prefix='backbone.'),
    )
    target.init_weights()
    state = source.state_dict()
    shared = resize_table(state[f'rel_pos_bias.{TABLE}'], (8, 8), (size // 8,) * 2)
    for name, value in target.state_dict().items():
        if name.endswith(TABLE):
            assert torch.equal(value, shared), name
        elif not name.endswith('index'):
            assert torch.equal(value, state[name]), name
    assert target(torch.randn(1, 3, size, size))[0].isfinite().all()


def test_report(source, tmp_path, capsys):
    path = file_of('Microsoft', source, tmp_path)
    report = load_pretrained(student(96), path)
    assert report.format == 'BEiT' and len(report.expanded) == 3
    assert report.resized[0] == f'layers.0.attn.{TABLE}: 8x8 -> 12x12' and len(report.resized) == 3
    assert report.missing == ['ln2.weight', 'ln2.bias']
    assert sorted(report.unexpected) == ['lm_head.weight', 'ln1.bias', 'ln1.weight', 'mask_token']
    assert len(report.loaded) == len(list(student(96).parameters())) - 2
    assert 'expanded (3)' in str(report) and 'missing (2): ln2.weight, ln2.bias' in str(report)


def test_timms_beit(tmp_path):
    beit = timm.models.beit.Beit(
        img_size=64,
        patch_size=8,
        embed_dim=48,
        depth=3,
        num_heads=3,
        init_values=0.1,
        num_classes=5,
        use_abs_pos_emb=False,
        use_rel_pos_bias=True,
    ).eval()
    for value in beit.state_dict().values():
        if value.is_floating_point():
            value.normal_(0, 0.2)
    torch.save(beit.state_dict(), tmp_path / 'beit.pth')
    target = student(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'beit.pth'))).eval()
    target.init_weights()
    images = torch.randn(2, 3, 64, 64)
    features = beit.forward_head(beit.forward_features(images), pre_logits=True)
    assert (target(images)[0] - features).abs().max() < 1e-4


def test_own_grid_non_square_is_read_off_the_index(tmp_path):
    torch.manual_seed(0)
    source = randomised(student((32, 64), **PRETRAIN))
    torch.save(source.state_dict(), tmp_path / 'a.pth')
    target = student((48, 64))
    report = load_pretrained(target, str(tmp_path / 'a.pth'))
    assert report.resized[0] == f'layers.0.attn.{TABLE}: 4x8 -> 6x8'
    expected = resize_table(source.rel_pos_bias.relative_position_bias_table, (4, 8), (6, 8))
    assert torch.equal(target.layers[1].attn.relative_position_bias_table, expected)


def test_absolute_positions_are_resized(tmp_path):
    flags = dict(use_abs_pos_emb=True, use_rel_pos_bias=False, layer_scale_init_value=0)
    source = randomised(student(**flags))
    torch.save(source.state_dict(), tmp_path / 'a.pth')
    target = student(96, **flags)
    assert load_pretrained(target, str(tmp_path / 'a.pth')).resized == ['pos_embed: 8x8 -> 12x12']
    assert torch.equal(target.pos_embed[:, 0], source.pos_embed[:, 0])


@pytest.mark.parametrize('loader', ['torch', 'mmengine'])
def test_load_from_leaves_no_random_table(loader, source):
    """``load_from`` of a whole pre-training model: MMEngine's loader and torch's end in the same place."""

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = student(96, out_type='featmap')

    model = Whole()
    state = {f'backbone.{name}': value for name, value in source.state_dict().items()}
    if loader == 'torch':
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert missing == [] or all(name.endswith('index') for name in missing)
        assert set(unexpected) == {'backbone.ln1.weight', 'backbone.ln1.bias', 'backbone.mask_token'}
    else:
        from mmengine.runner.checkpoint import load_state_dict

        load_state_dict(model, state, strict=False)
    expected = resize_table(source.rel_pos_bias.relative_position_bias_table, (8, 8), (12, 12))
    for layer in model.backbone.layers:
        assert torch.equal(layer.attn.relative_position_bias_table, expected)
    assert f'backbone.rel_pos_bias.{TABLE}' in state  # the caller's own dict is left alone


class TestRefused:
    def refuse(self, state, match, tmp_path, target=None):
        path = tmp_path / 'a.pth'
        torch.save(state, path)
        target = target or student()
        before = {name: value.clone() for name, value in target.state_dict().items()}
        with pytest.raises(ValueError, match=match):
            load_pretrained(target, str(path))
        for name, value in target.state_dict().items():
            assert torch.equal(value, before[name]), name  # nothing half loaded

    def test_missing_block(self, source, tmp_path):
        state = {k: v for k, v in source.state_dict().items() if not k.startswith('layers.1.')}
        self.refuse(state, r'has no layers.1.gamma_1', tmp_path)

    def test_other_width(self, tmp_path):
        wide = MVPViT({**ARCH, 'embed_dims': 96}, img_size=64, patch_size=8, **PRETRAIN)
        self.refuse(wide.state_dict(), r'cls_token has shape \(1, 1, 96\) there, and \(1, 1, 48\)', tmp_path)

    def test_other_patch_size(self, tmp_path):
        coarse = student(patch_size=16, **PRETRAIN)
        match = r'patch_embed.projection.weight has shape \(48, 3, 16, 16\) there, and \(48, 3, 8, 8\)'
        self.refuse(coarse.state_dict(), match, tmp_path)

    def test_more_blocks(self, tmp_path):
        deep = MVPViT({**ARCH, 'num_layers': 4}, img_size=64, patch_size=8, **PRETRAIN)
        self.refuse(deep.state_dict(), 'it has layers.3', tmp_path)

    def test_something_else(self, tmp_path):
        self.refuse(timm.create_model('test_resnet').state_dict(), 'no vision transformer', tmp_path)
        self.refuse(['not', 'weights'], 'no plain weight file', tmp_path)

    def test_pickles_are_not_run(self, tmp_path):
        target = tmp_path / 'created'

        class Bomb:
            def __reduce__(self):
                return Path.touch, (target,)

        bare = tmp_path / 'bare.pth'
        bare.write_bytes(pickle.dumps(Bomb()))
        inside = tmp_path / 'inside.pth'
        torch.save(dict(state_dict={'a': torch.ones(1)}, log=Bomb()), inside)
        traced = tmp_path / 'traced.pth'
        torch.jit.trace(nn.Linear(1, 1), torch.zeros(1, 1)).save(str(traced))
        for path in (bare, inside, traced):
            with pytest.raises(ValueError):
                load_pretrained(student(), str(path))
        assert not target.exists()

    def test_damaged_file(self, source, tmp_path):
        path = tmp_path / 'a.pth'
        torch.save(source.state_dict(), path)
        whole = path.read_bytes()
        for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            with pytest.raises(ValueError, match='no plain weight file'):
                load_pretrained(student(), str(path))

    def test_none_and_missing(self):
        model = student(init_cfg=dict(type='Pretrained', checkpoint=None))
        with pytest.raises(FileNotFoundError, match='backbone.init_cfg.checkpoint=FILE_OR_URL'):
            model.init_weights()
        with pytest.raises(FileNotFoundError, match='no checkpoint missing.pth'):
            load_pretrained(student(), 'missing.pth')


def test_training_checkpoint_with_log_objects(source, tmp_path):
    """MMEngine's checkpoints hold objects that torch's safe mode refuses; their tensors are read."""
    from mmengine.logging import HistoryBuffer

    path = tmp_path / 'a.pth'
    state = {f'backbone.{name}': value for name, value in source.state_dict().items()}
    buffer = HistoryBuffer([1.0], [1])
    torch.save(dict(state_dict=state, message_hub=dict(log_scalars=dict(loss=buffer))), path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    report = load_pretrained(student(), str(path))
    assert len(report.expanded) == 3


def test_matches_mmpretrains_downstream_beit(source, tmp_path):
    """Loaded into mmpretrain's own BEiT by hand, the features are the same."""
    target = student(out_type='featmap', out_indices=[0, 1, 2]).eval()
    torch.save(source.state_dict(), tmp_path / 'a.pth')
    load_pretrained(target, str(tmp_path / 'a.pth'))
    peer = BEiTViT(ARCH, img_size=64, patch_size=8, out_type='featmap', out_indices=[0, 1, 2])
    peer.load_state_dict(target.state_dict())
    peer.eval()
    images = torch.randn(2, 3, 64, 64)
    for mine, theirs in zip(target(images), peer(images), strict=True):
        assert (mine - theirs).abs().max() < 1e-3 * theirs.abs().max()


class TestPeersOfTheComparison:
    """The plain ViTs that configs/upernet compares with: their files fill MVPViT, and features agree."""

    plain = dict(bias=True, use_abs_pos_emb=True, use_rel_pos_bias=False, layer_scale_init_value=0)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def loaded(self, state, tmp_path, **flags):
        torch.save(dict(state_dict=state), tmp_path / 'a.pth')
        flags = dict(final_norm=True, out_type='raw') | flags
        target = student(**flags).eval()
        load_pretrained(target, str(tmp_path / 'a.pth'), 'backbone.')
        return target(self.images)[0]

    def test_mae_and_maskfeat(self, tmp_path):
        from mmpretrain.models.backbones import VisionTransformer

        peer = randomised(VisionTransformer(ARCH, 64, 8, out_type='raw', norm_cfg=dict(type='LN', eps=1e-6)))
        peer.eval()
        state = {f'backbone.{name}': value for name, value in peer.state_dict().items()}
        state['neck.decoder_embed.weight'] = torch.ones(2)
        ours = self.loaded(state, tmp_path, **self.plain)
        assert (ours - peer(self.images)[0]).abs().max() < 1e-3

    def test_cae(self, tmp_path):
        from mmpretrain.models.selfsup import CAEPretrainViT

        peer = randomised(CAEPretrainViT(ARCH, 64, 8, layer_scale_init_value=0.1))
        peer.eval()
        state = {f'backbone.{name}': value for name, value in peer.state_dict().items()}
        state |= {f'teacher.{name}': value + 1 for name, value in peer.state_dict().items()}
        ours = self.loaded(state, tmp_path, use_abs_pos_emb=True, use_rel_pos_bias=False)
        visible = torch.zeros(2, 64, dtype=torch.bool)
        assert (ours - peer(self.images, visible)).abs().max() < 1e-3

    def test_dino(self, tmp_path):
        torch.manual_seed(0)
        peer = timm.models.VisionTransformer(64, 8, embed_dim=48, depth=3, num_heads=3, num_classes=0).eval()
        ours = self.loaded(peer.state_dict(), tmp_path, **self.plain)
        with torch.no_grad():
            assert (ours - peer.forward_features(self.images)).abs().max() < 1e-4


def test_features_equal_mmsegs_beit(source, tmp_path):
    """The same weights in mmseg's own BEiT (its removed SciPy call avoided by equal sizes)."""
    from mmseg.models.backbones import BEiT

    torch.save(source.state_dict(), tmp_path / 'a.pth')
    target = student(out_type='featmap', out_indices=[0, 1, 2]).eval()
    for value in source.state_dict().values():
        if value.is_floating_point():
            value.mul_(0.2)
    torch.save(source.state_dict(), tmp_path / 'a.pth')
    load_pretrained(target, str(tmp_path / 'a.pth'))
    peer = BEiT(
        img_size=64, patch_size=8, embed_dims=48, num_layers=3, num_heads=3, mlp_ratio=4,
        out_indices=(0, 1, 2), norm_cfg=dict(type='LN', eps=1e-6),
    )  # fmt: skip
    peer.eval()
    peer.load_state_dict(target.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64)
    for mine, theirs in zip(target(images), peer(images), strict=True):
        assert (mine - theirs).abs().max() < 1e-4
