"""Pre-training checkpoint to fine-tuning, linear probe and k-NN, end to end on a small labelled folder."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from PIL import Image

from mvp_mm.engine import build_runner, load_config
from mvp_mm.evaluation import knn
from mvp_mm.models import MVPViT

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
CLASSES = ('blue', 'red')
SIZE = 64
TINY = dict(
    arch=dict(embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=96),
    img_size=SIZE,
    patch_size=16,
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Noisy images, bluish ones and reddish ones."""
    root = tmp_path_factory.mktemp('labelled')
    rng = np.random.default_rng(0)
    for split, count in (('train', 16), ('val', 6)):
        for label, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 160, (SIZE, SIZE, 3), dtype=np.uint8)
                pixels[..., 2 * (1 - label)] += 95
                Image.fromarray(pixels).save(root / split / name / f'{number}.png')
    return root


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory):
    """A checkpoint as pre-training saves it: one bias table for all blocks, beside a neck."""
    torch.manual_seed(0)
    student = MVPViT(
        **TINY, out_type='raw', final_norm=True, use_rel_pos_bias=False, use_shared_rel_pos_bias=True
    )
    torch.nn.init.normal_(student.rel_pos_bias.relative_position_bias_table)
    state = {f'backbone.{name}': value for name, value in student.state_dict().items()}
    state['neck.fc.weight'] = torch.zeros(8, 48)
    path = tmp_path_factory.mktemp('pretrained') / 'epoch_300.pth'
    torch.save(dict(state_dict=state, meta=dict(epoch=300), message_hub=dict(lr=np.float64(1))), path)
    return path


def resized(pipeline):
    """The pipeline for images of the debug size."""
    for step in pipeline:
        if step['type'] == 'RandomResizedCrop':
            step['scale'] = SIZE
        elif step['type'] == 'ResizeEdge':
            step['scale'] = SIZE + 8
        elif step['type'] == 'CenterCrop':
            step['crop_size'] = SIZE
    return pipeline


def shrunk(name, folder, checkpoint, work_dir, **options):
    """The real config with a small model, small images and two epochs; every other part stays."""
    cfg = load_config(str(ROOT / 'configs' / name), str(work_dir))
    cfg.model.backbone.update(TINY)
    cfg.model.head.update(in_channels=48, num_classes=2)
    cfg.model.data_preprocessor.num_classes = 2
    cfg.model.backbone.init_cfg.checkpoint = str(checkpoint)
    for key in ('train', 'val', 'test'):
        loader = cfg[f'{key}_dataloader']
        loader.update(batch_size=8, num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(folder), classes=list(CLASSES))
        resized(loader.dataset.pipeline)
    cfg.train_dataloader.sampler.total_batch = 8
    cfg.auto_scale_lr.base_batch_size = 8
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        if evaluator.type == 'Accuracy':
            evaluator.topk = (1,)
    cfg.train_cfg.max_epochs = 2
    cfg.default_hooks.logger.interval = 1
    cfg.merge_from_dict(options)
    return cfg


def logged(runner):
    (log,) = Path(runner.log_dir).glob('vis_data/*_*.json')
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_fine_tuning(folder, pretrained, tmp_path):
    cfg = shrunk('finetune/vitb16_in1k.py', folder, pretrained, tmp_path)
    runner = build_runner(cfg)
    runner.train()
    assert runner.iter == 8
    lines = logged(runner)
    losses = [line['loss'] for line in lines if 'loss' in line]
    assert (
        len(losses) == 8 and all(np.isfinite(losses)) and 0.6 < losses[0] < 0.8
    )  # ln 2: the head starts near 0
    scores = [line['accuracy/top1'] for line in lines if 'accuracy/top1' in line]
    assert len(scores) == 2 and all(0 <= score <= 100 for score in scores)
    assert list(tmp_path.glob('best_accuracy_top1_*.pth'))


def test_checkpoint_reaches_every_block(folder, pretrained, tmp_path):
    cfg = shrunk('finetune/vitb16_in1k.py', folder, pretrained, tmp_path)
    model = MODELS.build(cfg.model)
    model.init_weights()
    source = torch.load(pretrained, weights_only=False)['state_dict']
    shared = source['backbone.rel_pos_bias.relative_position_bias_table']
    for name, value in model.backbone.layers.state_dict().items():
        if name.endswith('bias_table'):
            assert torch.equal(value, shared), name
        elif not name.endswith('index'):
            assert torch.equal(value, source[f'backbone.layers.{name}']), name
    assert model.head.fc.weight.abs().max() < 2e-4


@pytest.mark.parametrize(
    'name', ['finetune/vitb16_in1k.py', 'finetune/vitl16_in1k.py', 'linear_probe/vitb16_in1k.py']
)
def test_without_a_checkpoint(name):
    cfg = Config.fromfile(ROOT / 'configs' / name)
    cfg.model.backbone.update(TINY)
    if 'probe' in name:
        cfg.model.backbone.update(frozen_stages=3, out_indices=(0, 1, 2))
    with pytest.raises(FileNotFoundError, match='model.backbone.init_cfg.checkpoint=FILE_OR_URL'):
        MODELS.build(cfg.model).init_weights()


def test_linear_probe(folder, pretrained, tmp_path):
    blocks = {
        'model.backbone.frozen_stages': 3,
        'model.backbone.out_indices': [0, 1, 2],
        'model.head.blocks': [0, 1, 2],
    }
    cfg = shrunk('linear_probe/vitb16_in1k.py', folder, pretrained, tmp_path, **blocks)
    assert type(cfg.val_evaluator.type) is str and '_delete_' not in cfg.val_evaluator
    runner = build_runner(cfg)
    model = runner.model
    model.init_weights()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    head = {name: value.clone() for name, value in model.head.state_dict().items()}
    runner.train()
    assert runner.iter == 8
    after = model.backbone.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in after)
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert all((head[name] != value).any() for name, value in model.head.state_dict().items())
    (*_, line) = (line for line in logged(runner) if 'linear_probe/top1' in line)
    table = {key: value for key, value in line.items() if key.startswith('linear_probe/top1_')}
    assert len(table) == 3 * 4 and line['linear_probe/top1'] == max(table.values())
    block, factor = line['linear_probe/best_block'], line['linear_probe/best_lr_multiplier']
    assert (
        table[f'linear_probe/top1_block{block}_x{factor:g}'] == line['linear_probe/top1'] > 90
    )  # two colours
    (saved,) = tmp_path.glob('best_linear_probe_top1_*.pth')
    again = shrunk('linear_probe/vitb16_in1k.py', folder, pretrained, tmp_path / 'test', **blocks)
    again.load_from = str(saved)
    again.model.backbone.init_cfg.checkpoint = None  # not needed to test
    figures = build_runner(again).test()
    best = max(line['linear_probe/top1'] for line in logged(runner) if 'linear_probe/top1' in line)
    assert figures['linear_probe/top1'] == best


def tool(name, monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', [name, *(str(argument) for argument in arguments)])
    runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')


def knn_tool(monkeypatch, *arguments):
    tool('knn.py', monkeypatch, *arguments)


def test_knn(folder, pretrained, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(knn, 'print_log', lambda message, *args: lines.append(message))
    cfg = shrunk('finetune/vitb16_in1k.py', folder, None, tmp_path)
    cfg.dump(tmp_path / 'config.py')
    out = tmp_path / 'knn.json'
    common = (tmp_path / 'config.py', pretrained, '--out', out, '--k', 1, 10, 100, '--device', 'cpu')
    knn_tool(monkeypatch, *common, '--query-chunk', 5, '--train-chunk', 7)
    assert '100-NN is skipped: there are 32 training images' in lines
    figures = json.loads(out.read_text())
    assert set(figures) == {'1-NN', '10-NN'}
    assert figures['10-NN']['top1'] > 90 and 'top5' not in figures['10-NN']  # two colours
    cls = ('--cfg-options', 'model.backbone.out_type=cls_token', 'model.backbone.final_norm=True')
    knn_tool(monkeypatch, *common, '--dtype', 'float16', *cls)
    assert set(json.loads(out.read_text())) == {'1-NN', '10-NN'}
    with pytest.raises(SystemExit, match=r'ERROR: k-NN needs one vector \(B, D\) an image'):
        knn_tool(monkeypatch, *common, '--cfg-options', 'model.backbone.out_type=raw')
    with pytest.raises(SystemExit, match='ERROR: .*nowhere.pth'):
        knn_tool(monkeypatch, common[0], tmp_path / 'nowhere.pth')
    for name in ('first', 'second'):
        knn_tool(monkeypatch, common[0], 'random', '--out', tmp_path / name, *common[4:])
    assert (tmp_path / 'first').read_text() == (tmp_path / 'second').read_text()


def test_knn_of_another_backbone(folder, tmp_path, monkeypatch):
    cfg = shrunk('finetune/vitb16_in1k.py', folder, None, tmp_path)
    cfg.model.backbone = dict(type='ResNet', depth=18)
    cfg.model.neck = dict(type='GlobalAveragePooling')
    cfg.model.head.in_channels = 512
    model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'resnet.pth')
    cfg.dump(tmp_path / 'config.py')
    knn_tool(
        monkeypatch, tmp_path / 'config.py', tmp_path / 'resnet.pth', '--k', 5, '--out', tmp_path / 'knn.json'
    )
    assert json.loads((tmp_path / 'knn.json').read_text())['5-NN']['top1'] > 60
    state = model.state_dict()
    del state['backbone.layer1.0.conv1.weight']
    torch.save(state, tmp_path / 'broken.pth')
    with pytest.raises(SystemExit, match=r'ERROR: .*no backbone.layer1.0.conv1.weight'):
        knn_tool(monkeypatch, tmp_path / 'config.py', tmp_path / 'broken.pth')


def test_given_classes_are_counted(folder, pretrained, tmp_path):
    cfg = shrunk('finetune/vitb16_in1k.py', folder, pretrained, tmp_path)
    cfg.train_dataloader.dataset.classes = ['blue', 'green', 'red']
    with pytest.raises(ValueError, match='3 classes are given, and .*train has 2 class folders'):
        build_runner(cfg).train()


@pytest.fixture(scope='module')
def pets(tmp_path_factory):
    """A folder of three classes, as a user has one."""
    root = tmp_path_factory.mktemp('pets')
    rng = np.random.default_rng(0)
    for split, count in (('train', 6), ('val', 2)):
        for label, name in enumerate(('cat', 'dog', 'fish')):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 120, (70, 80, 3), dtype=np.uint8)
                pixels[..., label] += 135
                Image.fromarray(pixels).save(root / split / name / f'{number}.png')
    (root / 'train' / '.ipynb_checkpoints').mkdir()
    return root


@pytest.fixture(scope='module')
def debug_student(tmp_path_factory):
    """A checkpoint as configs/mvp/vittiny_debug.py saves it."""
    student = MODELS.build(Config.fromfile(ROOT / 'configs/mvp/vittiny_debug.py').model.backbone)
    path = tmp_path_factory.mktemp('student') / 'epoch_10.pth'
    torch.save({f'backbone.{name}': value for name, value in student.state_dict().items()}, path)
    return path


def three_classes(root, *more):
    loaders = [f'{loader}_dataloader.dataset.data_root={root}' for loader in ('train', 'val', 'test')]
    return ('--cfg-options', *loaders, *more)


DEBUG = ROOT / 'configs/finetune/vittiny_debug.py'
QUICK = ('train_cfg.max_epochs=1', 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0')
QUICK += ('test_dataloader.num_workers=0', 'default_hooks.checkpoint.interval=1')


def test_a_folder_of_three_classes(pets, debug_student, tmp_path, monkeypatch):
    """The commands of docs/downstream.md: k-NN, fine-tuning, test."""
    work_dir = tmp_path / 'run'
    out = tmp_path / 'out.json'
    common = three_classes(pets, *QUICK)
    knn_tool(monkeypatch, DEBUG, debug_student, '--k', 5, '--device', 'cpu', '--out', out, *common)
    assert json.loads(out.read_text())['5-NN']['top1'] > 60
    weights = f'model.backbone.init_cfg.checkpoint={debug_student}'
    head = 'model.head.num_classes=3'
    tool('train.py', monkeypatch, DEBUG, '--work-dir', work_dir, *common, head, weights)
    saved = torch.load(work_dir / 'epoch_1.pth', weights_only=False)
    assert saved['meta']['dataset_meta']['classes'] == ('cat', 'dog', 'fish')
    assert saved['state_dict']['head.fc.weight'].shape == (3, 96)
    tested = ('--out', out, '--work-dir', tmp_path / 'tested')
    tool('test.py', monkeypatch, DEBUG, work_dir / 'epoch_1.pth', *tested, *common, head)
    assert set(json.loads(out.read_text())) == {'accuracy/top1'}  # no top-5 of three classes


def test_the_probe_of_a_folder_of_three_classes(pets, debug_student, tmp_path, monkeypatch):
    """The command of docs/downstream.md."""
    options = three_classes(pets, *QUICK, 'model.head.num_classes=3')
    weights = f'model.backbone.init_cfg.checkpoint={debug_student}'
    config = ROOT / 'configs/linear_probe/vittiny_debug.py'
    tool('train.py', monkeypatch, config, '--work-dir', tmp_path, *options, weights)
    saved = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['state_dict']
    student = torch.load(debug_student, weights_only=False)
    name = 'backbone.layers.3.attn.qkv.weight'
    assert torch.equal(saved[name], student[name])
    figures = [json.loads(line) for log in tmp_path.glob('*/vis_data/*_*.json') for line in log.open()]
    (validation,) = [line for line in figures if 'linear_probe/top1' in line]
    assert 'linear_probe/top5' not in validation  # of three classes


def test_an_unreadable_image_ends_in_one_line(pets, debug_student, tmp_path, monkeypatch):
    """Also where a worker meets it."""
    shutil.copytree(pets, tmp_path / 'pets')
    (tmp_path / 'pets/train/dog/3.png').write_bytes(b'no image')
    options = three_classes(tmp_path / 'pets', *QUICK, 'train_dataloader.num_workers=1')
    more = ('val_dataloader.num_workers=1', 'model.head.num_classes=3', 'model.backbone.init_cfg=None')
    message = r'^\nERROR: [^\n]*dog/3.png cannot be read [^\n]*: replace the file, or delete it\n\(MVP[^\n]*$'
    with pytest.raises(SystemExit, match=message):
        tool('train.py', monkeypatch, DEBUG, '--work-dir', tmp_path / 'run', *options, *more)
    with pytest.raises(SystemExit, match=message):
        knn_tool(monkeypatch, DEBUG, debug_student, '--k', 5, '--device', 'cpu', *options, *more)


def test_knn_wants_a_classification_config(debug_student, monkeypatch):
    for config in ('mvp/vittiny_debug.py', 'upernet/vittiny_camvid.py'):
        with pytest.raises(
            SystemExit, match='ERROR: k-NN needs the images and labels of a classification config'
        ):
            knn_tool(monkeypatch, ROOT / 'configs' / config, debug_student)


@pytest.mark.parametrize('config', ['finetune/vitb16_in1k.py', 'linear_probe/vitb16_in1k.py'])
def test_another_number_of_classes_than_the_heads(config, pets, debug_student, tmp_path, monkeypatch):
    arch = dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384)
    cfg = load_config(str(ROOT / 'configs' / config), str(tmp_path))
    cfg.model.backbone.update(arch=arch, img_size=64, patch_size=8)
    cfg.model.head.in_channels = 96
    if 'probe' in config:
        cfg.model.backbone.update(frozen_stages=4, out_indices=[3])
        cfg.model.head.blocks = [3]
    cfg.dump(tmp_path / 'config.py')
    weights = f'model.backbone.init_cfg.checkpoint={debug_student}'
    options = three_classes(pets, *QUICK, weights, 'train_dataloader.batch_size=2')
    message = r'ERROR: the images have 3 classes \(cat, dog, fish\), and the head has 1000: .*num_classes=3'
    with pytest.raises(SystemExit, match=message):
        tool('train.py', monkeypatch, tmp_path / 'config.py', '--work-dir', tmp_path / 'run', *options)


@pytest.mark.parametrize(
    'names,message',
    [
        (('cat', 'dog'), 'the images have 2 classes'),
        (('cat', 'cow', 'fish'), "different classes .*'dog' and 'cow'"),
    ],
)
def test_validation_images_of_another_folder(names, message, pets, tmp_path, monkeypatch):
    for name in names:
        shutil.copytree(pets / 'val/cat', tmp_path / 'others/val' / name)
    options = three_classes(pets, *QUICK, 'model.head.num_classes=3', 'model.backbone.init_cfg=None')
    other = f'val_dataloader.dataset.data_root={tmp_path / "others"}'
    with pytest.raises(SystemExit, match=message):
        tool('train.py', monkeypatch, DEBUG, '--work-dir', tmp_path / 'run', *options, other)
