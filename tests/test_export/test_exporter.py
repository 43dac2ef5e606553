"""Every target, opened by the code that the report prints; the way back; and what is refused."""

import importlib.util
import re

import pytest
import timm
import torch
from mmengine.registry import init_default_scope
from mmpretrain.models.utils import resize_pos_embed
from mmpretrain.registry import MODELS
from safetensors.torch import load_file

from mvp_mm.export import TARGETS, ExportedStudent, ParityError, export, load_student
from mvp_mm.export.exporter import TOLERANCE
from mvp_mm.export.timm import name_and_arguments
from mvp_mm.models import MVPViT
from mvp_mm.weights import load
from mvp_mm.weights.bias_tables import TABLE, resize_table

STAGES = ('pretraining', 'classification', 'segmentation')  # of conftest.py
SIZE, CLASSES = 40, 5


def need(target):
    for name in TARGETS[target].packages:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f'{name} is not installed: pip install "mvp_mm[export]"')


def place(target, folder):
    return folder / f'exported{(TARGETS[target].suffixes or ("",))[0]}'


def opened_by_printed_code(target, report):
    """Outputs of the library, from what the report tells the user to run."""
    code = report.notes[-1].strip().splitlines()[0]
    if target == 'timm':
        model = eval(code, dict(timm=timm)).eval()
        return lambda images: {
            'tokens': model.forward_features(images),
            'features': model.forward_head(model.forward_features(images), pre_logits=True),
            'logits': model(images),
        }
    if target == 'transformers':
        import transformers

        model = eval(code, dict(transformers=transformers)).eval()
        backbone = model.base_model
        return lambda images: {
            'tokens': backbone(images).last_hidden_state,
            'features': backbone(images).pooler_output,
            'logits': getattr(model(images), 'logits', None),
        }
    if target == 'mmpretrain':
        init_default_scope('mmpretrain')
        whole = code.startswith('mmpretrain')
        model = MODELS.build(eval(re.sub(r'^\S*?[(=](?={)|\)$', '', code)))
        model.init_weights()
        model.eval()
        if whole:
            return lambda images: {'logits': model(images, mode='tensor')}
        name = {'raw': 'tokens'}.get(model.out_type, 'features')
        return lambda images: {name: model(images)[-1]}
    if target == 'onnx':
        import onnxruntime

        def outputs(images):
            session = eval(code.split('.run(')[0], dict(onnxruntime=onnxruntime))
            found = session.run(None, {'images': images.numpy()})
            names = [output.name for output in session.get_outputs()]
            return {name: torch.from_numpy(value) for name, value in zip(names, found, strict=True)}

        return outputs
    raise AssertionError(target)


OPENED = [
    (target, weights, stage)
    for target in ('timm', 'transformers', 'mmpretrain')
    for weights, stage in (
        ('trained', 'pretraining'),
        ('random', 'classification'),
        ('random', 'segmentation'),
    )
]
OPENED += [('onnx', 'trained', 'classification')]  # by far the slowest exporter


@pytest.mark.slow
@pytest.mark.parametrize(('target', 'weights', 'stage'), OPENED)
@torch.no_grad()
def test_opened_elsewhere(target, weights, stage, checkpoint, expected, images, tmp_path):
    need(target)
    path, vit = checkpoint(stage, weights)
    out = place(target, tmp_path)
    report = export(target, path, out)
    assert report.passed and report.largest < TOLERANCE
    assert {size for size, *_ in report.rows} == {(SIZE, SIZE), (24, 24)}
    ours, theirs = expected(vit, path, images), opened_by_printed_code(target, report)(images)
    compared = set(ours) & set(theirs)
    assert compared
    for name in compared:
        assert (theirs[name] - ours[name]).abs().max() <= 1e-5 * ours[name].abs().max().clamp(min=1), name
    if target == 'onnx':
        assert compared == set(ours)
        one = opened_by_printed_code(target, report)(images[:1])
        assert (one['tokens'] - ours['tokens'][:1]).abs().max() < 1e-5 * ours['tokens'].abs().max().clamp(
            min=1
        )
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([f'{stage}.pth', out.name])


@pytest.mark.parametrize('stage', STAGES)
@torch.no_grad()
def test_mmseg(stage, checkpoint, images, tmp_path):
    """Every block's feature map, in the backbone that the printed config builds."""
    from mmseg.registry import MODELS as SEGMENTORS

    path, vit = checkpoint(stage)
    report = export('mmseg', path, tmp_path / 'a.pth')
    init_default_scope('mmseg')
    peer = SEGMENTORS.build(eval(report.notes[-1].strip().removeprefix('backbone=')))
    peer.init_weights()
    peer.eval()
    vit.out_type, vit.out_indices = 'featmap', (0, 1, 2)
    for ours, theirs in zip(vit(images), peer(images), strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * ours.abs().max()


def test_microsofts_names(checkpoint, tmp_path):
    """Exactly the entries of BEiT's pre-training checkpoint, but for its predictor."""
    path, vit = checkpoint()
    export('microsoft', path, tmp_path / 'a.pth')
    state = torch.load(tmp_path / 'a.pth', weights_only=True)['model']
    block = ['gamma_1', 'gamma_2', 'attn.q_bias', 'attn.v_bias', 'attn.qkv.weight']
    for layer in ('norm1', 'norm2', 'attn.proj', 'mlp.fc1', 'mlp.fc2'):
        block += [f'{layer}.weight', f'{layer}.bias']
    names = {f'blocks.{number}.{name}' for number in range(3) for name in block}
    names |= {'cls_token', 'mask_token', 'patch_embed.proj.weight', 'patch_embed.proj.bias', 'norm.weight'}
    names |= {
        'norm.bias',
        'rel_pos_bias.relative_position_bias_table',
        'rel_pos_bias.relative_position_index',
    }
    assert set(state) == names
    assert torch.equal(state['mask_token'], vit.mask_token)
    assert torch.equal(state['blocks.1.mlp.fc2.weight'], vit.layers[1].ffn.layers[1].weight)


@pytest.mark.parametrize('stage', STAGES)
@pytest.mark.parametrize('target', [name for name in TARGETS if name != 'onnx'])
@torch.no_grad()
def test_and_back(target, stage, checkpoint, arguments, images, tmp_path):
    """What was exported fills an MVPViT, by the same loading as any checkpoint, with the same numbers."""
    need(target)
    path, vit = checkpoint(stage)
    out = place(target, tmp_path)
    export(target, path, out)
    if target in ('transformers', 'safetensors', 'microsoft'):  # what pre-training needs is kept
        again, own = MVPViT(**arguments(stage)), vit.state_dict()
        load(again, str(out))
        for name, value in again.state_dict().items():
            assert torch.equal(value, own[name]), name
    here, _ = load_student(path)
    there, _ = load_student(str(out))
    ours, theirs = here(images), there(images)
    assert 'features' not in ours or target == 'mmseg' or set(ours) == set(theirs)
    for name in set(ours) & set(theirs):
        assert (ours[name] - theirs[name]).abs().max() <= 1e-6 * ours[name].abs().max().clamp(min=1), name


@pytest.mark.parametrize('target', ['mmseg', 'microsoft', 'safetensors'])
@torch.no_grad()
def test_a_trained_student_goes_there_and_back(target, checkpoint, images, tmp_path):
    """As :func:`test_opened_elsewhere` has it for the other targets, at its own size and at another one."""
    path, vit = checkpoint('pretraining', 'trained')
    out = place(target, tmp_path)
    report = export(target, path, out)
    assert report.passed and report.largest < TOLERANCE
    assert {size for size, *_ in report.rows} == {(SIZE, SIZE), (24, 24)}
    if target == 'mmseg':  # it has no place for the final norm; the report compares the blocks' feature maps
        return
    there, _ = load_student(str(out))
    for shown in (images, images[..., :24, :24]):
        ours = vit(shown)[-1]
        assert (there(shown)['tokens'] - ours).abs().max() <= 1e-5 * ours.abs().max().clamp(min=1)


@pytest.mark.parametrize('target', [name for name in TARGETS if name not in ('onnx', 'mmseg', 'mmpretrain')])
def test_at_another_size(target, checkpoint, images, tmp_path):
    """Tables resized by this package, so that no library's own way of resizing is needed."""
    need(target)
    path, vit = checkpoint()
    out = place(target, tmp_path)
    report = export(target, path, out, img_size=64)
    assert {size for size, *_ in report.rows} == {(64, 64), (48, 48)}
    there, _ = load_student(str(out))
    assert there.img_size == (64, 64)
    images = torch.nn.functional.interpolate(images, size=64)
    with torch.no_grad():
        ours, theirs = vit(images)[-1], there(images)['tokens']
    assert (ours - theirs).abs().max() < 1e-5


@pytest.mark.parametrize('target', ['timm', 'mmpretrain', 'microsoft', 'safetensors'])
def test_non_square(target, checkpoint, tmp_path):
    path, _ = checkpoint(img_size=(24, 64))
    report = export(target, path, place(target, tmp_path))
    assert report.passed and {size for size, *_ in report.rows} == {(24, 64), (32, 48)}


@pytest.mark.parametrize('target', ['timm', 'mmpretrain', 'microsoft', 'safetensors'])
@pytest.mark.parametrize('stage', ['pretraining', 'classification'])
def test_a_file_tells_its_grid(target, stage, checkpoint, tmp_path):
    """Back into a student of the transposed grid, whose tables and positions have the same shapes."""
    path, vit = checkpoint(stage, img_size=(24, 64), use_abs_pos_emb=True)
    out = place(target, tmp_path)
    export(target, path, out)
    again = MVPViT(vit.arch_settings, (64, 24), 8, use_abs_pos_emb=True, out_type='raw')
    report = load(again, str(out))
    assert f'layers.0.attn.{TABLE}: 3x8 -> 8x3' in report.resized
    source = vit.rel_pos_bias or vit.layers[2].attn
    expected = resize_table(source.relative_position_bias_table, (3, 8), (8, 3))
    assert torch.equal(again.layers[2].attn.relative_position_bias_table, expected)
    assert torch.equal(again.pos_embed, resize_pos_embed(vit.pos_embed, (3, 8), (8, 3), 'bicubic', 1))
    assert load_student(str(out))[0].img_size == (24, 64)


def test_one_of_several_transformers(checkpoint, tmp_path):
    path, vit = checkpoint('classification')
    state = torch.load(path, weights_only=True)['state_dict']
    torch.save(dict(student={k: v + 1 for k, v in state.items()}, teacher=state), path)
    with pytest.raises(
        ValueError, match='2 networks, under the prefixes student., teacher.: .*--prefix teacher.'
    ):
        export('safetensors', path, tmp_path / 'a.safetensors')
    export('safetensors', path, tmp_path / 'a.safetensors', prefix='teacher.')
    written = load_file(tmp_path / 'a.safetensors')
    assert torch.equal(written['backbone.cls_token'], vit.cls_token)
    assert torch.equal(written['head.fc.weight'], state['head.fc.weight'])


def test_weights_that_are_not_finite(checkpoint, tmp_path):
    path, _ = checkpoint('classification')
    content = torch.load(path, weights_only=True)
    for name in ('head.fc.bias', 'backbone.layers.1.gamma_1'):
        bad = {**content['state_dict'], name: content['state_dict'][name] * float('inf')}
        torch.save(dict(state_dict=bad), path)
        with pytest.raises(ValueError, match=f'not finite: .* values of {name.removeprefix("backbone.")}'):
            export('timm', path, tmp_path / 'a.pth')
    assert not (tmp_path / 'a.pth').exists()


@pytest.mark.parametrize('told_by', ['checkpoint', 'config', 'metainfo', 'nothing'])
def test_class_names_in_transformers(told_by, checkpoint, arguments, tmp_path):
    need('transformers')
    import transformers

    path, _ = checkpoint('classification')
    names = ('cat', 'dog', 'road', 'sky', 'tree')
    config = tmp_path / 'config.py'
    backbone = f"model = dict(backbone=dict(type='MVPViT', **{arguments('classification')!r}))\n"
    if told_by == 'checkpoint':
        content = torch.load(path, weights_only=True)
        torch.save({**content, 'meta': dict(dataset_meta=dict(classes=names))}, path)
    else:
        given = dict(config=dict(classes=names), metainfo=dict(metainfo=dict(classes=names))).get(told_by, {})
        dataset = dict(type='LabelledImages', **given)  # whose own names are ImageNet's thousand
        config.write_text(f'{backbone}train_dataloader = dict(dataset={dataset!r})\n')
    export('transformers', path, tmp_path / 'out', config=None if told_by == 'checkpoint' else str(config))
    found = transformers.AutoConfig.from_pretrained(tmp_path / 'out')
    if told_by == 'nothing':
        names = tuple(f'LABEL_{number}' for number in range(5))
    assert found.id2label == dict(enumerate(names)) and found.label2id == {n: i for i, n in enumerate(names)}
    assert found.num_labels == 5


def test_how_timm_resizes(checkpoint, tmp_path):
    """docs/export.md: not by ``checkpoint_path``, but by two other ways, which agree."""
    path, _ = checkpoint('classification')
    out = str(tmp_path / 'a.safetensors')
    code = export('timm', path, out).notes[-1].strip()
    with pytest.raises(RuntimeError, match='size mismatch for blocks.0.attn.relative_position_bias_table'):
        eval(code.replace('img_size=(40, 40)', 'img_size=64'), dict(timm=timm))
    overlay = f'pretrained=True, pretrained_cfg_overlay=dict(file={out!r}, num_classes={CLASSES})'
    resized = eval(
        code.replace(f'checkpoint_path={out!r}', overlay).replace('img_size=(40, 40)', 'img_size=64'),
        dict(timm=timm),
    )
    after = eval(code, dict(timm=timm))
    after.set_input_size((64, 64))
    tables = [model.blocks[1].attn.relative_position_bias_table for model in (resized, after)]
    assert len(tables[0]) == 15**2 + 3 and torch.equal(*tables)


PLAIN = dict(bias=True, use_abs_pos_emb=True, use_rel_pos_bias=False, use_shared_rel_pos_bias=False)
PLAIN_STAGES = {
    'pretraining': dict(layer_scale_init_value=0, with_mask_token=True),
    'classification': dict(layer_scale_init_value=0),
    'CLS classification': dict(layer_scale_init_value=0, final_norm=True, out_type='cls_token'),
    'segmentation': dict(layer_scale_init_value=0),
    'layer scale': dict(),
}


@pytest.mark.parametrize(
    ('target', 'stages'),
    [
        ('timm', 'pretraining, classification, segmentation, layer scale'),
        ('transformers', 'pretraining, CLS classification'),
        ('mmpretrain', 'pretraining, classification, layer scale'),
        ('mmseg', 'pretraining, segmentation'),
        ('safetensors', 'pretraining, classification'),
    ],
)
@torch.no_grad()
def test_a_plain_vit(target, stages, checkpoint, arguments, expected, images, tmp_path):
    """MAE's and DINO's architecture, whose heads only a config tells, in each library that has it."""
    need(target)
    for number, name in enumerate(stages.split(', ')):
        stage = name if name in STAGES else 'classification'
        flags = PLAIN | PLAIN_STAGES[name]
        path, vit = checkpoint(stage, **flags)
        config = tmp_path / 'config.py'
        config.write_text(f"model = dict(backbone=dict(type='MVPViT', **{arguments(stage, **flags)!r}))")
        out = place(target, tmp_path / str(number))
        report = export(target, path, out, config=str(config))
        assert report.passed and {size for size, *_ in report.rows} == {(SIZE, SIZE), (24, 24)}
        names = {row[1] for row in report.rows}
        assert names >= ({'feature maps'} if target == 'mmseg' else {'tokens'})
        assert 'logits' in names or stage != 'classification'
        if target in ('timm', 'transformers', 'mmpretrain'):
            ours, theirs = expected(vit, path, images), opened_by_printed_code(target, report)(images)
            for key in {name for name, value in theirs.items() if value is not None} & set(ours):
                assert (theirs[key] - ours[key]).abs().max() <= 1e-5 * ours[key].abs().max().clamp(min=1)
        again = MVPViT(**arguments(stage, **flags))
        load(again, str(out))
        for key, value in again.state_dict().items():  # every scheme's way back
            if not key.startswith('ln2') and key != 'mask_token':
                assert torch.equal(value, vit.state_dict()[key]), key


@pytest.mark.parametrize('arch', ['base', 'large'])
@pytest.mark.parametrize('plain', [False, True])
def test_timm_by_the_plain_name(plain, arch):
    """A ViT-B or ViT-L at 224 needs no argument beside its name, and has ImageNet's normalisation."""
    flags = dict(PLAIN, layer_scale_init_value=0, final_norm=True, out_type='raw') if plain else {}
    with torch.device('meta'):
        student = ExportedStudent(dict(arch=arch, **flags))
        if not plain:
            student.head = torch.nn.Linear(student.encoder.embed_dims, 1000)
        name, arguments = name_and_arguments(student)
        model = timm.create_model(name, **arguments)
    assert arguments == {} and len(model.blocks) == student.encoder.num_layers
    assert model.pretrained_cfg['mean'] == timm.data.IMAGENET_DEFAULT_MEAN


@MODELS.register_module()
class ConvStudent(torch.nn.Module):
    """A student that is neither BEiT nor ViT: no CLS, its own names, one size."""

    def __init__(self, width):
        super().__init__()
        self.img_size, self.patch_size, self.embed_dims = (16, 24), 8, width
        self.stem = torch.nn.Conv2d(3, width, 8, 8)

    def encode_image(self, images, mask=None):
        return None, self.stem(images).flatten(2).transpose(1, 2)


@pytest.mark.slow
@torch.no_grad()
def test_any_student(images, tmp_path):
    need('onnx')
    config, path = tmp_path / 'config.py', str(tmp_path / 'a.pth')
    config.write_text("model = dict(backbone=dict(type='ConvStudent', width=4))")
    student = ConvStudent(4)
    state = {f'backbone.{name}': value for name, value in student.state_dict().items()}
    torch.save(dict(state_dict=state), path)
    for target in ('onnx', 'safetensors'):
        report = export(target, path, place(target, tmp_path), config=str(config))
        assert report.passed and [row[:2] for row in report.rows] == [((16, 24), 'tokens')]
    image = images[..., :16, :24]
    theirs = opened_by_printed_code('onnx', export('onnx', path, tmp_path / 'b.onnx', str(config)))(image)
    assert (theirs['tokens'] - student.encode_image(image)[1]).abs().max() < 1e-5
    with pytest.raises(ValueError, match='timm cannot hold this student: its weights .* of a BEiT or ViT'):
        export('timm', path, tmp_path / 'a.safetensors', config=str(config))


def test_transformers_folder_normalises_as_the_config_says(checkpoint, arguments, tmp_path):
    need('transformers')
    import transformers

    path, _ = checkpoint()
    export('transformers', path, tmp_path / 'beit')
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / 'beit')
    assert processor.image_mean == pytest.approx([0.485, 0.456, 0.406])
    assert processor.size['height'] == SIZE
    config = tmp_path / 'config.py'
    config.write_text(
        "model = dict(data_preprocessor=dict(mean=[127.5] * 3, std=[51.0] * 3), backbone=dict(type='MVPViT', "
        f'**{arguments("pretraining")!r}))'
    )
    export('transformers', path, tmp_path / 'again', config=str(config))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / 'again')
    assert processor.image_mean == pytest.approx([0.5] * 3)
    assert processor.image_std == pytest.approx([0.2] * 3)


def test_a_config_decides_on_the_architecture(checkpoint, arguments, tmp_path):
    """A pre-training checkpoint in a segmentation config: one table a block, no final norm, another size."""
    path, vit = checkpoint()
    config = tmp_path / 'config.py'
    config.write_text(
        "model = dict(backbone=dict(type='mmpretrain.MVPViT', norm_cfg=dict(type='LN', eps=1e-5), "
        f'**{arguments("segmentation", img_size=64)!r}))'
    )
    report = export('mmseg', path, tmp_path / 'a.pth', config=str(config))
    state = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert 'ln1.weight' not in state and len(state['layers.2.attn.relative_position_bias_table']) == 15**2 + 3
    assert "'eps': 1e-05" in report.notes[-1] and 'expanded (3)' in str(report)


class TestRefused:
    @pytest.fixture(autouse=True)
    def _fixtures(self, checkpoint, arguments, tmp_path):
        self.checkpoint, self.arguments, self.folder = checkpoint, arguments, tmp_path

    def refuse(self, target, match, with_config=False, error=ValueError, **changes):
        need(target)
        path, _ = self.checkpoint('classification', **changes)
        config = None
        if with_config:
            config = self.folder / 'config.py'
            flags = self.arguments('classification', **changes)
            config.write_text(f"model = dict(backbone=dict(type='MVPViT', **{flags!r}))")
        before = sorted(self.folder.iterdir())
        with pytest.raises(error, match=match):
            export(target, path, place(target, self.folder), config=config and str(config))
        assert sorted(self.folder.iterdir()) == before  # nothing half-written, no scratch

    def test_a_plain_vit(self):
        match = "bias on query, key and value, and BEiT's one on query and value"
        self.refuse('microsoft', match, True, layer_scale_init_value=0, **PLAIN)
        self.refuse('transformers', 'no final norm .*it has layer scale, for which .* ViT has', True, **PLAIN)
        self.refuse('mmseg', "layer scale, for which mmseg's ViT has no place", True, **PLAIN)
        flags = PLAIN | dict(bias=False, layer_scale_init_value=0)
        self.refuse('mmseg', 'its attention has no bias', True, **flags)

    def test_key_bias_beside_tables(self):
        match = "bias on query, key and value, and BEiT's one on query and value"
        for target in ('timm', 'transformers', 'mmseg'):
            self.refuse(target, match, True, bias=True)

    def test_absolute_positions_in_mmseg(self):
        match = 'mmseg cannot hold this student: it has absolute positions'
        self.refuse('mmseg', match, use_abs_pos_emb=True)

    def test_widths(self):
        odd = {**self.arguments()['arch'], 'feedforward_channels': 100}
        self.refuse('mmseg', 'MLP is 100 wide, which is no whole multiple of 48', arch=odd)

    def test_no_layer_scale(self):
        self.refuse('mmseg', 'no layer scale', layer_scale_init_value=0)

    @pytest.mark.parametrize('target', ['transformers', 'mmseg'])
    def test_non_square(self, target):
        self.refuse(target, 'its grid is 4x6', img_size=(32, 48))

    def test_other_eps(self):
        norm = dict(type='LN', eps=1e-5)
        self.refuse('timm', "norms have eps 1e-05, and timm's 1e-06", True, norm_cfg=norm)

    def test_other_activation(self):
        layers = dict(act_cfg=dict(type='ReLU'))
        self.refuse('transformers', 'activation is ReLU', True, layer_cfgs=layers)

    @pytest.mark.parametrize('target', ['timm', 'transformers'])
    def test_two_norms(self, target):
        self.refuse(target, r'norms its tokens and their mean', final_norm=True)

    def test_number_of_heads_unknown(self):
        match = 'cannot be read off its weights: it has no relative position bias table. Give the config'
        self.refuse('timm', match, **PLAIN)

    def test_no_transformer(self, tmp_path):
        torch.save(timm.create_model('test_resnet').state_dict(), tmp_path / 'a.pth')
        with pytest.raises(ValueError, match='no vision transformer'):
            export('timm', str(tmp_path / 'a.pth'), tmp_path / 'b.pth')

    def test_other_outputs(self, monkeypatch):
        """An exporter with a fault: bias tables mirrored."""
        right = ExportedStudent.weights

        def wrong(*arguments, **options):
            weights = right(*arguments, **options)
            return {
                name: value.flip(0) if name.endswith('table') else value for name, value in weights.items()
            }

        monkeypatch.setattr(ExportedStudent, 'weights', wrong)
        match = '(?s)40x40  tokens .* FAILED.*timm computes something else: nothing was written'
        self.refuse('timm', match, error=ParityError)

    def test_places(self, checkpoint, tmp_path):
        path, _ = checkpoint()
        with pytest.raises(ValueError, match='already a .*pretraining.pth'):
            export('microsoft', path, path)
        with pytest.raises(ValueError, match='should end with .safetensors or .pth'):
            export('timm', path, tmp_path / 'a.onnx')
        with pytest.raises(ValueError, match="no export to 'jax'; there is: timm"):
            export('jax', path, tmp_path / 'a')
        with pytest.raises(FileNotFoundError, match='no checkpoint gone.pth'):
            export('timm', 'gone.pth', tmp_path / 'a.pth')
        with pytest.raises(FileNotFoundError, match='no config file gone.py'):
            export('timm', path, tmp_path / 'a.pth', config='gone.py')

    def test_missing_package(self, monkeypatch):
        path, _ = self.checkpoint()
        monkeypatch.setattr(TARGETS['onnx'], 'packages', ('no_such_package',), raising=False)
        with pytest.raises(ImportError, match=r'needs no_such_package.*pip install "mvp_mm\[export\]"'):
            export('onnx', path, self.folder / 'a.onnx')


def test_safetensors_hold_no_index_where_the_grid_is_square(checkpoint, tmp_path):
    path, _ = checkpoint('classification')
    export('safetensors', path, tmp_path / 'a.safetensors')
    names = set(load_file(tmp_path / 'a.safetensors'))
    assert {'backbone.cls_token', 'head.fc.weight'} <= names
    assert not any(name.endswith('index') for name in names)


@pytest.mark.parametrize('target', ['timm', 'transformers', 'safetensors'])
def test_files_are_as_readable_as_others(target, checkpoint, tmp_path):
    """Colleagues may open them: safetensors' own writer makes files for their owner only."""
    need(target)
    path, _ = checkpoint()
    out = place(target, tmp_path)
    export(target, path, out)
    (tmp_path / 'plain').touch()
    for file in out.iterdir() if out.is_dir() else [out]:
        assert file.stat().st_mode == (tmp_path / 'plain').stat().st_mode, file
