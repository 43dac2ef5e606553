"""Checkpoints of every method go through the same downstream configs, exports, pictures, names and zoo."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from PIL import Image

import mvp_mm
from mvp_mm.engine import build_runner
from mvp_mm.export import TARGETS, export, load_student
from mvp_mm.models.from_config import build_from_config
from mvp_mm.visualization.viewed_model import view_models
from mvp_mm.zoo.custom_zoos import add_zoo
from mvp_mm.zoo.publish import publish

CONFIGS = Path(__file__).parents[1] / 'configs'
METHODS = {
    'MVP': 'mvp/vittiny_scenes.py',
    'RILS': 'rils/vittiny_scenes.py',
    'CLIP alone': 'rils/vittiny_scenes_clip.py',
    'MAE and CLIP': 'rils/vittiny_scenes_mae_clip.py',
}
of_each_method = pytest.mark.parametrize(
    'method', [pytest.param(name, marks=[] if name == 'RILS' else pytest.mark.slow) for name in METHODS]
)
DOWNSTREAM = ('upernet/vittiny_scenes.py', 'finetune/vittiny_scenes.py', 'linear_probe/vittiny_scenes.py')
NAMES = ['a red circle', 'a blue star', 'a green ring']


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Method -> the config in a work dir, the checkpoint as a run writes it there, and its model."""
    made = {}

    def of(method):
        if method not in made:
            init_default_scope('mmpretrain')
            torch.manual_seed(0)
            cfg = Config.fromfile(CONFIGS / METHODS[method])
            model = MODELS.build(cfg.model).eval()
            with torch.no_grad():  # whatever starts at zeros or ones differs from that
                for value in model.backbone.parameters():
                    if value.requires_grad and value.ndim < 3:
                        value.add_(0.05 * torch.randn_like(value))
            folder = tmp_path_factory.mktemp('run')
            cfg.dump(folder / 'config.py')
            meta = dict(epoch=1, iter=2, cfg=cfg.pretty_text, speech=model.speech())
            torch.save(dict(meta=meta, state_dict=model.state_dict()), folder / 'epoch_1.pth')
            made[method] = folder / 'config.py', str(folder / 'epoch_1.pth'), model
        return made[method]

    return of


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def tokens_of(vit, images):
    """What leaves the last block, before a final norm, which downstream configs do without."""
    seen = []
    hook = vit.layers[-1].register_forward_hook(lambda module, args, out: seen.append(out))
    with torch.no_grad():
        vit.eval().encode_image(images)
    hook.remove()
    return seen[0]


@of_each_method
@pytest.mark.parametrize('name', DOWNSTREAM)
def test_configs(method, name, trained, images, tmp_path):
    """A training starts from the checkpoint, k-NN sees it, and the same config tests what is trained."""
    _, checkpoint, model = trained(method)
    expected = tokens_of(model.backbone, images)
    cfg = Config.fromfile(CONFIGS / name)
    cfg.merge_from_dict({'model.backbone.init_cfg.checkpoint': checkpoint})
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.count = 16
    cfg.work_dir = str(tmp_path)
    runner = build_runner(cfg)
    runner._init_model_weights()
    vit = runner.model.backbone
    assert torch.equal(tokens_of(vit, images), expected)
    if vit.pos_embed is not None:
        assert vit.pos_embed.requires_grad == ('linear' not in name)  # it learns, as MAE's does downstream
    features = build_from_config(Config.fromfile(CONFIGS / name), checkpoint, head=False)
    assert torch.equal(tokens_of(features.backbone, images), expected)

    state = dict(meta=dict(cfg=cfg.pretty_text), state_dict=runner.model.state_dict())
    torch.save(state, tmp_path / 'iter_1.pth')
    again = build_from_config(Config.fromfile(CONFIGS / name), str(tmp_path / 'iter_1.pth'), whole=True)
    for key, value in runner.model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    student, _ = load_student(str(tmp_path / 'iter_1.pth'))  # to export, without a config
    assert torch.allclose(tokens_of(student.encoder, images), expected, atol=1e-5)


@of_each_method
@pytest.mark.parametrize('target', [name for name in TARGETS if name != 'onnx'])
def test_exports(method, target, trained, images, tmp_path):
    _, checkpoint, model = trained(method)
    student, _ = load_student(checkpoint)
    for found, wanted in zip(
        student.encoder.encode_image(images), model.backbone.encode_image(images), strict=True
    ):
        assert torch.allclose(found, wanted, atol=1e-5)
    out = tmp_path / f'out{(TARGETS[target].suffixes or ("",))[0]}'
    if target == 'microsoft' and method != 'MVP':
        with pytest.raises(ValueError, match='its attention has a bias on query, key and value'):
            export(target, checkpoint, out)
        return
    for package in TARGETS[target].packages:
        pytest.importorskip(package)
    report = export(target, checkpoint, out)  # which compares with the student
    assert report.passed and report.largest <= 1e-5 and out.exists()
    if target == 'safetensors':
        speaking = mvp_mm.get_model(str(out))
        for found, wanted in zip(speaking.embed_image(images), model.embed_image(images), strict=True):
            assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.slow
def test_export_to_onnx(trained, tmp_path):
    pytest.importorskip('onnxscript')
    assert export('onnx', trained('RILS')[1], tmp_path / 'out.onnx').largest <= 1e-5


@of_each_method
def test_names_and_pictures(method, trained, images, tmp_path):
    config, checkpoint, model = trained(method)
    speaking = mvp_mm.get_model(checkpoint)
    expected = model.zero_shot(images, NAMES)
    assert torch.allclose(speaking.zero_shot(images, NAMES), expected, atol=1e-5)
    picture = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    labels = [one.segment_by_text(picture, ['circle', 'star']) for one in (speaking, model)]
    assert torch.equal(*labels) and labels[0].shape == (64, 80)
    Image.fromarray(picture).save(tmp_path / 'a.png')
    (drawn,) = mvp_mm.segment(
        [tmp_path / 'a.png'], checkpoint=checkpoint, prompts='circle,star', out=tmp_path / 'out'
    )
    assert drawn.is_file()
    for name in (str(config), str(CONFIGS / DOWNSTREAM[0])):
        (viewed,) = view_models([[name, checkpoint]])
        pairs = zip(viewed.student.blockwise(images), model.backbone.blockwise(images), strict=True)
        assert all(torch.allclose(one[0], other[0], atol=1e-6) for one, other in pairs)


@of_each_method
def test_zoo(method, trained, images, tmp_path, monkeypatch):
    """A published model speaks by its name alone."""
    config, checkpoint, model = trained(method)
    monkeypatch.setattr('mvp_mm.zoo.custom_zoos._added', [])
    published = publish(Path(checkpoint).parent, tmp_path / 'zoo', name='mine')
    add_zoo(str(tmp_path / 'zoo'))
    again = mvp_mm.get_model('mine', pretrained=True)
    assert torch.allclose(again.zero_shot(images, NAMES), model.zero_shot(images, NAMES), atol=1e-5)
    if method != 'MVP':  # whose teacher is a file of its own
        assert 'clip_vittiny_scenes.json' not in json.dumps(published.row)
        assert isinstance(json.loads(published.config.read_text())['model']['text_encoder'], dict)


@pytest.mark.slow
@of_each_method
def test_evaluators(method, trained, tmp_path):
    """As ``tools/test.py`` runs them."""
    config, checkpoint, _ = trained(method)
    scenes = Config.fromfile(CONFIGS / 'zero_shot/scenes.py').evaluators
    cfg = Config.fromfile(config)
    masked = [step for step in cfg.train_dataloader.dataset.pipeline if step.type.endswith('Mask')]
    masks = dict(
        scenes[0].dataloader, dataset=dict(type='SceneImages', split='val', count=8, pipeline=masked)
    )
    masks['dataset']['pipeline'] = [*masked, dict(type='PackMaskedInputs')]
    cfg.evaluators = [*(dict(one, of='student') for one in scenes), dict(type='Alignment', dataloader=masks)]
    for one in cfg.evaluators:
        one['dataloader'] = dict(one['dataloader'], batch_size=4, num_workers=0, persistent_workers=False)
        one['dataloader']['dataset']['count'] = 8
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    cfg.update(work_dir=str(tmp_path), load_from=checkpoint)
    found = build_runner(cfg).test()
    assert {name.split('/')[0] for name in found} == {'scenes_shape', 'scenes_colour', 'scenes', 'alignment'}
    assert found['alignment/cls_rank'] > 1 and 0 <= found['scenes/mIoU'] <= 100
