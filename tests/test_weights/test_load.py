import copy
import pickle
from pathlib import Path

import pytest
import timm
import torch
from mmpretrain.models.backbones import BEiTViT
from mmpretrain.models.selfsup import BEiTPretrainViT
from mmpretrain.models.utils import resize_pos_embed
from safetensors.torch import save_file
from torch import nn

from mvp_mm.models import MVPViT
from mvp_mm.weights import load
from mvp_mm.weights.bias_tables import relative_position_index, resize_table
from mvp_mm.weights.fill_model import fill_whole, start_from

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
    report = load(student(96), path)
    assert report.format == 'BEiT' and len(report.expanded) == 3
    assert report.resized[0] == f'layers.0.attn.{TABLE}: 8x8 -> 12x12' and len(report.resized) == 3
    assert report.missing == ['ln2.weight', 'ln2.bias']
    assert sorted(report.unexpected) == ['lm_head.weight', 'ln1.bias', 'ln1.weight', 'mask_token']
    assert len(report.loaded) == len(list(student(96).parameters())) - 2
    assert 'expanded (3)' in str(report) and 'missing (2): ln2.weight, ln2.bias' in str(report)


def test_a_head_that_a_further_pretraining_leaves_out(source, tmp_path):
    state = {f'backbone.{name}': value for name, value in source.state_dict().items()}
    path = str(tmp_path / 'pretrained.pth')
    torch.save(state | {'neck.fc.weight': torch.zeros(1)}, path)
    downstream = load(student(64), path, is_start=True)
    assert not downstream.head and 'load_from' not in str(downstream)
    further = student(64, **PRETRAIN)
    assert f'give load_from={path} instead' in str(load(further, path, is_start=True))
    assert 'load_from' not in str(load(further, path))  # such as for pictures
    torch.save(state, path)
    assert 'load_from' not in str(load(further, path, is_start=True))


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
    report = load(target, str(tmp_path / 'a.pth'))
    assert report.resized[0] == f'layers.0.attn.{TABLE}: 4x8 -> 6x8'
    expected = resize_table(source.rel_pos_bias.relative_position_bias_table, (4, 8), (6, 8))
    assert torch.equal(target.layers[1].attn.relative_position_bias_table, expected)


TRANSPOSED = {'64x96 into 96x64': ((64, 96), (96, 64)), '24x64 into 48x32': ((24, 64), (48, 32))}
ABSOLUTE = dict(use_abs_pos_emb=True, use_rel_pos_bias=False)


def grid(size):
    return tuple(side // 8 for side in size)


@pytest.mark.parametrize(
    'way', ['file', 'load_state_dict', 'plain dict', 'whole model', 'load_from', 'given']
)
@pytest.mark.parametrize(('size', 'other'), TRANSPOSED.values(), ids=TRANSPOSED)
def test_tables_of_as_many_rows_in_another_grid(size, other, way, tmp_path):
    """A grid and its transpose have tables of one shape: the values tell whether they were taken for one."""
    torch.manual_seed(0)
    source, target = randomised(student(size)), student(other)
    state = source.state_dict()
    table = state[f'layers.1.attn.{TABLE}'].clone()
    if size == (64, 96):
        assert table.shape == target.layers[1].attn.relative_position_bias_table.shape
    before = {name: value.clone() for name, value in state.items()}
    if way == 'file':
        torch.save(dict(model=beit_names(state)), tmp_path / 'a.pth')
        load(target, str(tmp_path / 'a.pth'))
    elif way == 'load_state_dict':
        target.load_state_dict(state)
    elif way == 'plain dict':
        target.load_state_dict(dict(state.items()))
    elif way == 'given':
        torch.save({k: v for k, v in state.items() if not k.endswith('index')}, tmp_path / 'a.pth')
        target.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'), grid=list(grid(size)))
        target.init_weights()
    else:
        whole = nn.Module()
        whole.backbone = target
        weights = {f'backbone.{name}': value for name, value in state.items()}
        {'whole model': fill_whole, 'load_from': start_from}[way](whole, weights, 'a.pth')
    expected = resize_table(table, grid(size), grid(other))
    for name, value in target.state_dict().items():
        if name.endswith('index'):
            assert torch.equal(value, relative_position_index(grid(other))), name
        elif name == f'layers.1.attn.{TABLE}':
            assert torch.equal(value, expected) and not torch.equal(value, table)
    assert all(torch.equal(state[name], value) for name, value in before.items())  # the caller's own


@pytest.mark.parametrize('flags', [ABSOLUTE, dict(use_abs_pos_emb=True)], ids=['alone', 'with tables'])
@pytest.mark.parametrize(('size', 'other'), [(64, (32, 128)), ((32, 128), 64), ((64, 96), (96, 64))])
def test_as_many_positions_in_another_grid(size, other, flags, tmp_path):
    torch.manual_seed(0)
    source = randomised(student(size, **flags))
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'a.pth')
    expected = resize_pos_embed(source.pos_embed, source.window, student(other).window, 'bicubic', 1)
    for how in ('file', 'load_state_dict'):
        target = student(other, **flags)
        if how == 'file':
            load(target, str(tmp_path / 'a.pth'))
        else:
            target.load_state_dict(source.state_dict())
        assert target.pos_embed.shape == source.pos_embed.shape
        assert torch.equal(target.pos_embed, expected) and not torch.equal(target.pos_embed, source.pos_embed)


def test_positions_of_unknown_origin_are_a_square():
    source, target = randomised(student(64, **ABSOLUTE)), student((32, 128), **ABSOLUTE)
    target.load_state_dict(dict(source.state_dict().items()))
    expected = resize_pos_embed(source.pos_embed, (8, 8), (4, 16), 'bicubic', 1)
    assert torch.equal(target.pos_embed, expected)


@pytest.mark.parametrize('size', [(32, 128), (64, 96), (16, 128)])
@pytest.mark.parametrize('flags', [dict(), ABSOLUTE], ids=['tables', 'positions'])
def test_the_same_grid_changes_nothing(size, flags, tmp_path):
    """Back into the student that they came from, directly, by a file, and by one with MMEngine's config."""
    source = randomised(student(size, **flags))
    state = source.state_dict()
    torch.save(state, tmp_path / 'a.pth')
    text = f"model = dict(\n    backbone=dict(img_size={size}, patch_size=8, type='MVPViT'))\n"
    plain = {f'backbone.{name}': value for name, value in state.items()}  # as older releases have it
    torch.save(dict(meta=dict(cfg=text), state_dict=plain), tmp_path / 'b.pth')
    for path in (None, 'a.pth', 'b.pth'):
        target = student(size, **flags)
        if path is None:
            target.load_state_dict(copy.deepcopy(state))
        else:
            assert not load(target, str(tmp_path / path)).resized
        for name, value in target.state_dict().items():
            assert torch.equal(value, state[name]), name


def test_grids_that_nobody_can_tell(tmp_path):
    path = tmp_path / 'a.pth'
    distilled = timm.models.deit.VisionTransformerDistilled(64, 8, embed_dim=48, depth=3, num_heads=3)
    torch.save(dict(model=distilled.state_dict()), path)
    flags = dict(bias=True, layer_scale_init_value=0, **ABSOLUTE)
    for size in ((64, 96), 64):
        with pytest.raises(
            ValueError, match=r'a.pth does not fit: .* pos_embed has 66 entries, 1 of them for'
        ):
            load(student(size, **flags), str(path))
    state = randomised(student((64, 96))).state_dict()
    torch.save({k: v for k, v in state.items() if not k.endswith('index')}, path)
    with pytest.raises(ValueError, match=r'348 rows, which fits no square grid.*init_cfg.grid=8,12'):
        load(student((96, 64)), str(path))
    with pytest.raises(ValueError, match=r'348 rows, which fits not the given 8x11'):
        load(student((96, 64)), str(path), grid=(8, 11))
    with pytest.raises(ValueError, match=r"grid='8x' is no patch grid"):
        load(student((96, 64)), str(path), grid='8x')
    whole = nn.Module()
    whole.backbone = student((96, 64), **ABSOLUTE)
    weights = student((64, 96), **ABSOLUTE).state_dict()
    with pytest.raises(
        ValueError, match='a.pth does not fit: the patch grid of its positions cannot be told'
    ):
        fill_whole(whole, {f'backbone.{name}': value for name, value in weights.items()}, 'a.pth')


class TestSeveralTransformers:
    """Files of self-distillation and of averaged weights."""

    FILES = {
        'DINO': lambda a, b: {'student': under('module.backbone.', a), 'teacher': under('backbone.', b)},
        'flat': lambda a, b: {**under('student.', a), **under('teacher.', b)},
        'whole': lambda a, b: {'state_dict': {**under('student.', a), **under('teacher.backbone.', b)}},
        'EMA': lambda a, b: {'model': a, 'teacher': b},
        'deep': lambda a, b: {'epoch': 3, 'nets': {'student': {'net': a}}, 'teacher': {'ema': {'net': b}}},
    }

    @pytest.fixture
    def two(self, source):
        return source.state_dict(), {name: value + 1 for name, value in source.state_dict().items()}

    @pytest.mark.parametrize('file', FILES)
    def test_is_chosen_by_its_prefix(self, file, two, tmp_path):
        path = str(tmp_path / 'a.pth')
        torch.save(self.FILES[file](*two), path)
        for asked in (None, 'backbone.', 'techer.'):
            with pytest.raises(
                ValueError, match='holds 2 networks.*teacher.*init_cfg.prefix=.*--prefix'
            ) as error:
                load(student(), path, asked)
            assert '\n' not in str(error.value) and ('under techer.' in str(error.value)) == (
                asked == 'techer.'
            )
        for asked in ('teacher.', 'teacher'):
            target = student(**PRETRAIN)
            target.init_cfg = dict(type='Pretrained', checkpoint=path, prefix=asked)
            target.init_weights()
            assert all(
                torch.equal(target.state_dict()[name], two[1][name]) for name in ('cls_token', 'ln1.bias')
            )

    @pytest.mark.parametrize('keys', ['teacher', 'model_ema', 'net', 'weights', 'state_dict_ema', 'a.b.c'])
    def test_one_is_found_at_any_key(self, keys, two, tmp_path):
        content = two[1]
        for key in keys.split('.')[::-1]:
            content = {key: content, 'epoch': 3, 'optimizer': {'state': {0: {'exp_avg': torch.ones(2)}}}}
        torch.save(content, tmp_path / 'a.pth')
        target = student(**PRETRAIN)
        load(target, str(tmp_path / 'a.pth'))
        assert torch.equal(target.cls_token, two[1]['cls_token'])

    def test_where_a_rule_is_safe_it_says_so(self, two, tmp_path):
        """mmpretrain trains what lies under ``backbone.``; MMEngine saves averages as ``state_dict``."""
        torch.save({**under('teacher.', two[1]), **under('backbone.', two[0])}, tmp_path / 'a.pth')
        target = student(**PRETRAIN)
        report = load(target, str(tmp_path / 'a.pth'))
        assert torch.equal(target.cls_token, two[0]['cls_token'])
        assert 'under backbone.' in str(report) and 'init_cfg.prefix=teacher.' in str(report)
        torch.save(dict(state_dict=two[0], ema_state_dict=two[1]), tmp_path / 'b.pth')
        load(target, str(tmp_path / 'b.pth'))
        assert torch.equal(target.cls_token, two[0]['cls_token'])

    def test_a_prefix_that_is_not_there(self, two, tmp_path):
        torch.save(under('teacher.', two[0]), tmp_path / 'a.pth')
        with pytest.raises(
            ValueError, match='no transformer under the prefix techer.: it has one under teacher.'
        ):
            load(student(), str(tmp_path / 'a.pth'), 'techer.')
        torch.save(two[0], tmp_path / 'a.pth')
        report = load(student(), str(tmp_path / 'a.pth'), 'techer.')
        assert 'there is no techer. in it: it is a bare backbone' in str(report)


def under(prefix, state):
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_weights_that_are_not_finite(value, source, tmp_path):
    state = source.state_dict()
    state['layers.1.attn.proj.weight'][2, :3] = value
    state['layers.2.gamma_1'][0] = value
    torch.save(state, tmp_path / 'a.pth')
    match = (
        r'a.pth has weights that are not finite: 3 of the 2304 values of layers.1.attn.proj.weight .*\(2 such'
    )
    target = student()
    before = target.cls_token.clone()
    with pytest.raises(ValueError, match=match):
        load(target, str(tmp_path / 'a.pth'))
    assert torch.equal(target.cls_token, before)
    whole = nn.Module()
    whole.backbone = student(**PRETRAIN)
    weights = under('backbone.', state)
    with pytest.raises(ValueError, match='not finite: 3 of the 2304 values of backbone.layers.1'):
        fill_whole(whole, weights, 'a.pth')
    whole.backbone, whole.head = student(**PRETRAIN), nn.Linear(2, 2)
    weights = under('backbone.', student(**PRETRAIN).state_dict()) | {
        'head.weight': torch.full((2, 2), value),
        'head.bias': torch.zeros(2),
    }
    with pytest.raises(ValueError, match='not finite: 4 of the 4 values of head.weight'):
        start_from(whole, weights, 'a.pth')


def test_absolute_positions_are_resized(tmp_path):
    flags = dict(use_abs_pos_emb=True, use_rel_pos_bias=False, layer_scale_init_value=0)
    source = randomised(student(**flags))
    torch.save(source.state_dict(), tmp_path / 'a.pth')
    target = student(96, **flags)
    assert load(target, str(tmp_path / 'a.pth')).resized == ['pos_embed: 8x8 -> 12x12']
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
            load(target, str(path))
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
                load(student(), str(path))
        assert not target.exists()

    def test_damaged_file(self, source, tmp_path):
        path = tmp_path / 'a.pth'
        torch.save(source.state_dict(), path)
        whole = path.read_bytes()
        for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            with pytest.raises(ValueError, match='no plain weight file'):
                load(student(), str(path))

    def test_none_and_missing(self):
        model = student(init_cfg=dict(type='Pretrained', checkpoint=None))
        with pytest.raises(FileNotFoundError, match='backbone.init_cfg.checkpoint=FILE_OR_URL'):
            model.init_weights()
        with pytest.raises(FileNotFoundError, match='no checkpoint missing.pth'):
            load(student(), 'missing.pth')


def test_training_checkpoint_with_log_objects(source, tmp_path):
    """MMEngine's checkpoints hold objects that torch's safe mode refuses; their tensors are read."""
    from mmengine.logging import HistoryBuffer

    path = tmp_path / 'a.pth'
    state = {f'backbone.{name}': value for name, value in source.state_dict().items()}
    buffer = HistoryBuffer([1.0], [1])
    torch.save(dict(state_dict=state, message_hub=dict(log_scalars=dict(loss=buffer))), path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    report = load(student(), str(path))
    assert len(report.expanded) == 3


def test_matches_mmpretrains_downstream_beit(source, tmp_path):
    """Loaded into mmpretrain's own BEiT by hand, the features are the same."""
    target = student(out_type='featmap', out_indices=[0, 1, 2]).eval()
    torch.save(source.state_dict(), tmp_path / 'a.pth')
    load(target, str(tmp_path / 'a.pth'))
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
        load(target, str(tmp_path / 'a.pth'), 'backbone.')
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
    load(target, str(tmp_path / 'a.pth'))
    peer = BEiT(
        img_size=64, patch_size=8, embed_dims=48, num_layers=3, num_heads=3, mlp_ratio=4,
        out_indices=(0, 1, 2), norm_cfg=dict(type='LN', eps=1e-6),
    )  # fmt: skip
    peer.eval()
    peer.load_state_dict(target.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64)
    for mine, theirs in zip(target(images), peer(images), strict=True):
        assert (mine - theirs).abs().max() < 1e-4


def test_a_module_of_other_names(tmp_path):
    """Not a transformer with positions: exactly its own names, ``backbone.`` before them allowed."""
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    torch.save({f'backbone.{name}': value for name, value in source.state_dict().items()}, tmp_path / 'a.pth')
    report = load(target, str(tmp_path / 'a.pth'))
    assert torch.equal(target.weight, source.weight) and report.loaded == ['weight', 'bias']
    with pytest.raises(ValueError, match=r'weight has shape \(3, 2\) there, and \(3, 4\) in the model'):
        load(nn.Linear(4, 3), str(tmp_path / 'a.pth'))
    with pytest.raises(ValueError, match='it has no scale, which the model needs'):
        load(nn.ParameterDict({'scale': nn.Parameter(torch.ones(1))}), str(tmp_path / 'a.pth'))
