"""Every block of shell and of Python in README and docs is run, or parsed where it wants real data or GPUs.

What is done with a command follows from what it calls (:func:`kind_of`). A comment above a block may say it:
``<!-- test: set-up -->``, for what only a fresh clone can run (tools/release_check.sh does that);
``<!-- test: shown: REASON -->``, for what cannot be run here.

Runs are shrunk: the reader has a few images, and a training ends after one epoch or iteration.
"""

import argparse
import ast
import copy
import importlib.util
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from needs_mmdet import WITH_MMDET
from PIL import Image

import mvp_mm
import mvp_mm_command
from mvp_mm import engine
from mvp_mm.console import training

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
FENCE = re.compile(r'(?:<!-- test: ([^>]*?) -->\n)?^```(\S*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
SHELL, PYTHON = ('bash', 'shell', 'sh', 'console'), ('python', 'py')
NOT_CODE = ('text', 'bibtex', 'yaml', '{toctree}', '{eval-rst}')

# Words that a reader replaces, with what the reader of these tests has.
LABELLED, MAPS = 'labelled', 'maps'
REAL_DATA_TOOLS = (
    'list_teachers',
    *('prepare_ade20k', 'check_imagenet', 'train_teacher', 'reproduce_miniature', 'demonstrate'),
    'reproduce_photographs',
    *('benchmark_pretrain', 'benchmark_segmentation', 'benchmark_data', 'compare_crops', 'compare_losses'),
    *('benchmark_ideas', 'fault_injection', 'gpu_check', 'count_memory'),
)
LAUNCHERS = {'dist_train.sh': ('train', 1), 'dist_test.sh': ('test', 2), 'slurm_train.sh': ('train', 3)}
FRESH_CLONE = ('quickstart.sh', 'run_tests.sh', 'release_check.sh')


class Block:
    """A fenced block."""

    def __init__(self, page, mark, language, text, line):
        self.page, self.mark, self.language, self.text, self.line = page, mark or '', language, text, line
        self.id = f'{page.relative_to(ROOT)}:{line}'


def blocks():
    found = []
    for page in PAGES:
        text = page.read_text(encoding='utf-8')
        for match in FENCE.finditer(text):
            found.append(Block(page, *match.groups(), text[: match.start(2)].count('\n') + 1))
    return found


BLOCKS = blocks()
IN_SHELL = [block for block in BLOCKS if block.language in SHELL]
IN_PYTHON = [block for block in BLOCKS if block.language in PYTHON]


def lines_of(block):
    """Commands of a block, as lists of words."""
    text = block.text.replace('\\\n', ' ')
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    return [words for words in lines if words]


def without_environment(words):
    while words and re.fullmatch(r'[A-Z_]+=.*', words[0]):
        words = words[1:]
    return words


def kind_of(block, words):
    """What is to be done with a command; None where that cannot be told."""
    words = without_environment(words)
    if not words or words[0] in ('export', 'cp'):
        return 'shell'
    first, rest = words[0], words[1:]
    if first == 'mvp-mm':
        return 'mvp-mm'
    if block.mark == 'set-up' or first in ('pip', 'source', 'docker', 'tensorboard'):
        return 'set-up'
    script = Path(rest[0]).name if rest else ''
    if first == 'bash' and script in FRESH_CLONE:
        return 'set-up'
    if first == 'bash' and script in LAUNCHERS:
        return 'launcher'
    if first == 'python' and rest[:2] == ['-m', 'sphinx']:
        return 'set-up'
    if first == 'python' and rest[0].startswith('docs/figures/'):
        return 'set-up'
    if first == 'python' and rest[0].startswith('tools/'):
        return 'tool'
    return 'shown' if block.mark.startswith('shown: ') else None


def test_every_block_has_its_place():
    assert len(IN_SHELL) > 30 and len(IN_PYTHON) > 10
    for page in PAGES:  # none that the pattern does not see
        fences = re.findall(r'^ *(```\S*)', page.read_text(encoding='utf-8'), re.MULTILINE)
        assert len(fences) == 2 * sum(block.page == page for block in BLOCKS), page
    for block in BLOCKS:
        assert block.language in SHELL + PYTHON + NOT_CODE, f'{block.id}: a block of {block.language!r}?'
        if block.language in SHELL:
            for words in lines_of(block):
                assert kind_of(block, words), f'{block.id}: what is to be done with {shlex.join(words)}?'


def test_links_lead_somewhere():
    for page in PAGES:
        text = re.sub(r'```.*?```', '', page.read_text(encoding='utf-8'), flags=re.DOTALL)
        for target in re.findall(r'\]\(([^)\s]+)\)', text):
            if '://' in target:
                continue
            path, _, anchor = target.partition('#')
            place = page.parent / path if path else page
            assert place.exists(), f'{page.name}: {target}'
            if anchor:
                titles = re.findall(r'^#+ (.*)$', place.read_text(encoding='utf-8'), re.MULTILINE)
                slugs = {re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-') for title in titles}
                assert anchor in slugs, f'{page.name}: {target}'


# The reader's folder


def smooth(path, size, seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)


@pytest.fixture(scope='session')
def pictures(tmp_path_factory):
    """Images as the pages' placeholders want them: labelled, with label maps, single."""
    folder = tmp_path_factory.mktemp('reader')
    for split in ('train', 'val'):
        for number, name in enumerate(('cats', 'dogs', 'fish')):
            for image in range(6):
                smooth(folder / LABELLED / split / name / f'{image}.jpg', (72, 80), 10 * number + image)
        for image in range(4 if split == 'train' else 1):
            smooth(folder / MAPS / 'images' / split / f'{image}.jpg', (96, 72), image)
            labels = folder / MAPS / 'annotations' / split / f'{image}.png'
            labels.parent.mkdir(parents=True, exist_ok=True)
            values = np.random.default_rng(image).integers(0, 2, (72, 96), dtype=np.uint8)
            Image.fromarray(values).save(labels)
    for name in ('photo.jpg', 'other.jpg', 'street.jpg'):
        smooth(folder / name, (90, 60), 7)
    for number in range(8):
        smooth(folder / 'my_images' / f'{number:05d}.png', (80, 80), number)
    rows = [f'train/cats/{number}.jpg\tgato n\xba {number}\t0\n' for number in range(6)]
    (folder / 'captions.tsv').write_text(f'image\tsentence\tclass\n{"".join(rows)}', 'cp1252')
    return folder


def plain(model, part=''):
    """A checkpoint as training saves it."""
    speech = dict(speech=model.speech()) if hasattr(model, 'speech') else {}
    weights = {part + name: value for name, value in model.state_dict().items()}
    return dict(state_dict=weights, meta=dict(speech, epoch=1))


@pytest.fixture(scope='session')
def students(pictures):
    """Checkpoints by the size of the model: of pre-training, of a classifier, of a segmentation model."""
    folder = pictures / 'students'
    folder.mkdir()
    made = {
        'student': mvp_mm.get_model('mvp_vittiny_scenes'),
        'mae': mvp_mm.get_model('mvp_vittiny_scenes_mae'),
        'classifier': mvp_mm.get_model('finetune_vittiny_debug', head=dict(num_classes=3)),
        'camvid': mvp_mm.get_model('upernet_vittiny_camvid'),
        'custom': mvp_mm.get_model('upernet_vittiny_custom'),
        'debug': mvp_mm.get_model('mvp_vittiny_debug'),
        'overfit': mvp_mm.get_model('mvp_vittiny_overfit'),
    }
    for name, model in made.items():
        torch.save(plain(model), folder / f'{name}.pth')
    torch.save(plain(made['camvid'].backbone, 'backbone.'), folder / 'backbone.pth')
    arch = dict(embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=64)
    shared = dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True, final_norm=True, out_type='raw')
    small = mvp_mm.models.MVPViT(arch, img_size=32, patch_size=8, **shared)
    torch.save(plain(small, 'backbone.'), folder / 'small.pth')
    batch = dict(
        inputs=torch.zeros(2, 3, 64, 64, dtype=torch.uint8), mask=torch.zeros(2, 8, 8, dtype=torch.bool)
    )
    batch['mask'][:, 2:5] = True
    torch.save(dict(batch=batch, **plain(made['debug'])), folder / 'bad_batch.pth')
    return folder


# Files that the pages name, and which of the students' each is.
CHECKPOINTS = {
    'work_dirs/vittiny_scenes/epoch_4.pth': 'student',
    'work_dirs/vittiny_scenes_mae/epoch_4.pth': 'mae',
    'work_dirs/student/epoch_10.pth': 'student',
    'work_dirs/classifier/epoch_10.pth': 'classifier',
    'work_dirs/vittiny_camvid/iter_400.pth': 'camvid',
    'work_dirs/vittiny_custom/iter_400.pth': 'custom',
    'work_dirs/overfit/epoch_600.pth': 'overfit',
    'work_dirs/segmentor/iter_400.pth': 'custom',
    'work_dirs/my_run/epoch_1.pth': 'student',
    'work_dirs/mine/epoch_300.pth': 'student',
    'work_dirs/first/epoch_2.pth': 'student',
    'epoch_300.pth': 'backbone',
    'bad_batch_iter_120_rank_0.pth': 'bad_batch',
    'FILE': 'student',
    'FILE_OR_URL': 'student',
    'CHECKPOINT': 'student',
    'MAE_FILE': 'mae',
    'BEIT_FOLDER': 'student',
}


@pytest.fixture
def reader(pictures, students, tmp_path, monkeypatch):
    """A folder that looks like the clone, with the reader's images and checkpoints."""
    for name in ('configs', 'tools', 'docs'):
        (tmp_path / name).symlink_to(ROOT / name)
    for path in pictures.iterdir():
        (tmp_path / path.name).symlink_to(path)
    for name, student in CHECKPOINTS.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(students / f'{student}.pth')
    for run, config in (('first', 'pretrain'), ('mine', 'pretrain'), ('my_run', 'config')):
        (tmp_path / f'work_dirs/{run}/{config}.py').write_text("_base_ = 'mvp_mm::mvp/vittiny_scenes.py'\n")
    copy_template(ROOT / 'configs/upernet/vittiny_custom.py', tmp_path / 'work_dirs/segmentor/segment.py')
    copy_template(ROOT / 'configs/upernet/vittiny_custom.py', tmp_path / 'vittiny_custom.py')
    write_logs(tmp_path / 'work_dirs')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.delenv('MVP_MM_ZOO', raising=False)
    shrink_runs(monkeypatch)
    # The slowest part of building a ViT-B; any weights will do here.
    monkeypatch.setattr(torch.nn.init, '_no_grad_trunc_normal_', uniform)
    return tmp_path


@torch.no_grad()
def uniform(tensor, mean, std, a, b, generator=None):
    return tensor.uniform_(a, b, generator=generator)


def copy_template(source, target):
    """With the first of the lines changed that a reader has to change."""
    target.write_text(Path(source).read_text().replace('data/mine', MAPS))


def write_logs(folder):
    for name in ('vittiny_scenes', 'vittiny_scenes_pixel', 'vittiny_scenes_mae', 'first'):
        logs = folder / name / '20260101_000000' / 'vis_data'
        logs.mkdir(parents=True)
        keys = ('loss', 'cosine_cls', 'target_cosine/excess', 'lr')
        rows = [json.dumps(dict.fromkeys(keys, 1 / i) | dict(iter=i, step=i)) for i in (1, 2)]
        (logs / 'scalars.json').write_text('\n'.join(rows))


def shrink_runs(monkeypatch):
    """A training or test of whatever a page says, with few samples and two iterations."""
    whole = engine.build_runner

    def small(cfg, auto_batch=True):
        for phase in ('train', 'val', 'test'):
            loader = cfg.get(f'{phase}_dataloader')
            if not loader:
                continue
            loader.update(num_workers=0, batch_size=2)
            loader.pop('persistent_workers', None)
            few = 4 if phase == 'train' else 1
            dataset = loader.dataset.get('dataset', loader.dataset)  # that of few shots
            if cfg.model.type == 'PromptClassifier':
                few = 24  # base and new classes
            if 'count' in dataset:
                dataset.count = few
            else:
                dataset.indices = few
            if 'total_batch' in loader.get('sampler', {}):
                loader.sampler.total_batch = 2
            if phase != 'train' and 'decode_head' in cfg.model:  # one window instead of six
                for step in loader.dataset.get('pipeline', ()):
                    if step.type == 'Resize':
                        step.scale = tuple(cfg.model.data_preprocessor.size)
        if cfg.get('train_cfg'):
            training.set_length(cfg, 1)
        cfg.auto_scale_lr = dict(base_batch_size=2, enable=False)
        cfg.resume = False  # the checkpoints are no real ones
        runner = whole(cfg, auto_batch)
        runner._log_env = lambda env: None
        return runner

    monkeypatch.setattr(engine, 'build_runner', small)
    monkeypatch.setattr(training, 'build_runner', small)
    monkeypatch.setattr(training, 'batch_size', lambda cfg, images: 2)  # else the multiply-adds are counted
    monkeypatch.setattr(Runner, '_log_env', lambda self, env: None)


def run_script(path, arguments, monkeypatch):
    monkeypatch.setattr(sys, 'argv', [str(path), *arguments])
    scope = dict(DefaultScope._instance_dict)
    try:
        runpy.run_path(str(path), run_name='__main__')
    except SystemExit as ended:
        assert ended.code in (None, 0), f'{shlex.join(arguments)}: {ended.code}'
    finally:
        DefaultScope._instance_dict.clear()
        DefaultScope._instance_dict.update(scope)


class Parsed(Exception):
    """What a tool understood."""


def parsed(path, arguments, monkeypatch):
    """A tool's arguments as its own parser takes them; the tool is not run."""
    parse = argparse.ArgumentParser.parse_args

    def stop(self, args=None, namespace=None):
        raise Parsed(parse(self, args, namespace))

    with monkeypatch.context() as patch:
        patch.setattr(sys, 'argv', [str(path), *arguments])
        patch.setattr(argparse.ArgumentParser, 'parse_args', stop)
        try:
            runpy.run_path(str(path), run_name='__main__')
        except Parsed as found:
            return found.args[0]
        except SystemExit as ended:
            raise AssertionError(f'{Path(path).name} does not take {shlex.join(arguments)}') from ended
    raise AssertionError(f'{path} parses nothing')


BUILT = []  # backbones that are known to build


def check_config(arguments):
    """A config named in a command is there, takes the options, and its network builds (without memory)."""
    name = getattr(arguments, 'config', None)
    if not name or not name.endswith('.py') or ('detection/' in name and not WITH_MMDET):
        return
    cfg = engine.load_config(name, 'work_dirs/parsed', 'none', getattr(arguments, 'cfg_options', None))
    if 'backbone' in cfg.model:
        backbone = Config(dict(cfg.model.backbone)).to_dict()
        backbone['init_cfg'] = None
        if backbone in BUILT:
            return
        with torch.device('meta'), DefaultScope.overwrite_default_scope(cfg.default_scope):
            ROOT_MODELS.build(copy.deepcopy(backbone))
        BUILT.append(backbone)


def check_pip(words):
    """Extras that are installed are there, and files of requirements."""
    for file in re.findall(r'-r (\S+)', ' '.join(words)):
        assert (ROOT / file).is_file(), file
    text = (ROOT / 'setup.py').read_text()
    for extras in re.findall(r'\[([\w,]+)\]', ' '.join(words)):
        for extra in extras.split(','):
            assert f"'{extra}':" in text, extra


def check_set_up(words):
    words = without_environment(words)
    if words[0] == 'pip':
        check_pip(words)
    elif words[0] == 'docker':
        text = (ROOT / 'Dockerfile').read_text()
        for argument in re.findall(r'--build-arg (\w+)=', shlex.join(words)):
            assert f'ARG {argument}' in text
    elif words[0] == 'tensorboard':
        assert 'tensorboard' in (ROOT / 'requirements/runtime.txt').read_text()
    elif words[0] in ('bash', 'python') and words[1] != '-m':
        assert (ROOT / words[1]).is_file(), words[1]


def filled_in(words, block):
    """What a reader has in the place of DIR and the like."""
    custom = any('custom' in word for line in lines_of(block) for word in line)
    names = {
        'DIR': MAPS if custom else LABELLED,
        'IMAGE_OR_FOLDER': 'photo.jpg',
        'IMAGE': 'photo.jpg',
        'LABELLED': LABELLED,
        'MAPS': MAPS,
        'CONFIG': 'configs/upernet/vittiny_camvid.py',
        '/lab/zoo': 'lab_zoo',
    }
    pattern = re.compile(r'(?<![\w.])(' + '|'.join(names) + r')(?![\w.])')
    joined = [pattern.sub(lambda match: names[match[1]], word) for word in words]
    if 'CONFIG' in words:  # with the checkpoint of its model
        joined = [
            'work_dirs/vittiny_camvid/iter_400.pth' if word == 'CHECKPOINT' else word for word in joined
        ]
    return [word for word in joined if word != '...']


def run_tool(words, block, reader, monkeypatch):
    tool, arguments = words[1], words[2:]
    name = Path(tool).stem
    arguments = filled_in(arguments, block)
    if name == 'visualize_attention' and any('vitb16' in word for word in arguments):
        parsed(tool, arguments, monkeypatch)
        return
    arguments = [
        path
        for word in arguments
        for path in (
            sorted(map(str, reader.glob(word))) if '*' in word and word.startswith('work_dirs/') else [word]
        )
    ]
    understood = parsed(tool, arguments, monkeypatch)
    at_full_size = any(
        re.search('vit[bl]16|BEIT_FOLDER|data/imagenet|data/ade|zero_shot/', word) for word in arguments
    )
    if name in REAL_DATA_TOOLS or at_full_size:
        check_config(understood)
        if getattr(understood, 'source', '').endswith('.py'):
            assert Path(understood.source).is_file()
        return
    if name == 'render_images':
        arguments += ['--count', '2']
        arguments[arguments.index('--out') + 1] += '_new'
    elif name == 'browse_scenes':
        arguments += ['--count', '4']
    elif name == 'knn':
        arguments += ['--device', 'cpu']
        if 'vittiny_scenes' in arguments[0]:
            arguments += [
                '--cfg-options',
                'train_dataloader.dataset.count=8',
                'val_dataloader.dataset.count=8',
            ]
        arguments += ['--k', '1']
    elif name == 'export' and 'onnx' in arguments:
        pytest.importorskip('onnxruntime')
    elif name == 'export' and 'transformers' in arguments:
        pytest.importorskip('transformers')
    if name == 'export':
        arguments[1] = str(reader / f'students/{"student" if "--prompts" in arguments else "small"}.pth')
    if name == 'export' and '--img-size' in arguments:
        arguments[arguments.index('--img-size') + 1] = '48'
    elif name == 'check_dataset':
        arguments += ['--workers', '1']
    run_script(tool, arguments, monkeypatch)
    if '--out' in arguments and name not in ('publish',):
        assert Path(arguments[arguments.index('--out') + 1]).exists()


def run_mvp_mm(words, block, reader, monkeypatch):
    arguments = filled_in(words[1:], block)
    command = arguments[0]
    if command in ('download', 'publish', 'export', 'segment'):
        run_tool(['python', f'tools/{command}.py', *arguments[1:]], block, reader, monkeypatch)
        return
    if command in ('pretrain', 'finetune', 'probe'):
        tiny = 'vit-tiny' in arguments
        out = arguments.index('--out') + 1
        arguments[out] = f'runs/{command}'  # as a reader who does it for the first time
        if not tiny:
            arguments.append('--dry-run')
    monkeypatch.setattr(sys, 'argv', ['mvp-mm', *arguments])
    try:
        mvp_mm_command.main()
    except SystemExit as ended:
        assert ended.code in (None, 0), f'{shlex.join(arguments)}: {ended.code}'
    if command in ('pretrain', 'finetune', 'probe'):
        written = 'segment' if 'segmentation' in arguments else command
        assert Path(f'runs/{command}/{written}.py').is_file()


def run_launcher(words, block, monkeypatch):
    words = without_environment(words)
    script = Path(words[1]).name
    tool, first = LAUNCHERS[script]
    assert (ROOT / 'tools' / script).is_file()
    rest = filled_in(words[2:], block)
    if script == 'slurm_train.sh':
        config, arguments = rest[2], rest[4:]
        assert len(rest) >= 4, 'PARTITION JOB CONFIG WORK_DIR'
        files = [config]
    else:
        files, gpus, arguments = rest[:first], rest[first], rest[first + 1 :]
        assert gpus.isdigit(), rest
    check_config(parsed(f'tools/{tool}.py', [*files, *arguments], monkeypatch))


@pytest.mark.slow
@pytest.mark.parametrize('block', IN_SHELL, ids=lambda block: block.id)
def test_shell(block, reader, monkeypatch):
    for words in lines_of(block):
        kind = kind_of(block, words)
        if kind == 'set-up':
            check_set_up(words)
        elif kind == 'launcher':
            run_launcher(words, block, monkeypatch)
        elif kind == 'tool':
            run_tool(without_environment(words), block, reader, monkeypatch)
        elif kind == 'mvp-mm':
            run_mvp_mm(without_environment(words), block, reader, monkeypatch)
        elif words[0] == 'cp':
            for source in words[1:-1]:
                copy_template(source, Path(words[-1], Path(source).name))


@pytest.mark.slow
@pytest.mark.parametrize('block', IN_PYTHON, ids=lambda block: block.id)
def test_python(block, reader, monkeypatch):
    if 'mvp_mm::detection/' in block.text and not WITH_MMDET:
        pytest.skip('mmdet is not installed: mvp_mm[detection]')
    if block.text.startswith('_base_'):
        (reader / 'mine.py').write_text(block.text)
        assert engine.load_config(str(reader / 'mine.py'), 'work_dirs/mine').model
        return
    ast.parse(block.text)
    names = {}
    registered = dict(ROOT_MODELS.children['mmpretrain']._module_dict)
    try:
        exec(compile(block.text, block.id, 'exec'), names)
    finally:
        ROOT_MODELS.children['mmpretrain']._module_dict.clear()
        ROOT_MODELS.children['mmpretrain']._module_dict.update(registered)
    RESULTS.get(next((word for word in RESULTS if word in block.text), ''), lambda names: None)(names)


def _names_and_answers(names):
    assert names['labels'].shape == (60, 90) and names['answer']['pred_label'] in range(3)


def _own_teacher(names):
    teacher, images = names['teacher'], names['images']
    tokens = teacher(images)
    assert tokens.shape == (2, 101, 64) and names['loss'].requires_grad
    network = teacher.teacher
    mean = torch.tensor(network.pretrained_cfg['mean']).view(3, 1, 1)
    std = torch.tensor(network.pretrained_cfg['std']).view(3, 1, 1)
    own_mean, own_std = (value.view(3, 1, 1) for value in (teacher.student_mean, teacher.student_std))
    as_seen = ((images * own_std + own_mean) / 255 - mean) / std
    blocks, x = [], network.patch_embed(as_seen)
    x = network.norm_pre(network.patch_drop(network._pos_embed(x)))
    for layer in network.blocks:
        x = layer(x)
        blocks.append(network.norm(x))
    assert torch.allclose(tokens, torch.stack(blocks).mean(0), atol=1e-5)


# What a block must have come to, by a word in it.
RESULTS = {
    'ImageClassificationInferencer': _names_and_answers,
    'MeanOfBlocks': _own_teacher,
    'the one of mvp_mm': lambda names: None,
}


def test_a_command_that_is_wrong_fails(reader, monkeypatch):
    """The tests above see a wrong option, a missing config, a key that nothing reads."""
    block = Block(ROOT / 'README.md', '', 'bash', '', 1)
    train = 'bash tools/dist_train.sh configs/mvp'
    for command, error, says in (
        (f'{train}/vitb16_in1k.py 8 --no-such-option', AssertionError, 'no-such-option'),
        (f'{train}/no_such_config.py 8', FileNotFoundError, 'no config file .*no_such_config'),
        (f'{train}/vitb16_in1k.py 8 --cfg-options no_such_key=1', ValueError, 'no_such_key'),
        (f'{train}/vitb16_in1k.py --cfg-options a=1', AssertionError, '--cfg-options'),
    ):
        with pytest.raises(error, match=says):
            run_launcher(command.split(), block, monkeypatch)
    assert kind_of(block, ['curl', 'http://host']) is None


def test_the_site_names_every_registered_class():
    """What is registered is in the API page."""
    text = (ROOT / 'docs/api.md').read_text()
    sources = '\n'.join(path.read_text() for path in (ROOT / 'mvp_mm').rglob('*.py'))
    names = set(re.findall(r'register_module\(\)\nclass (\w+)\(', sources))
    assert len(names) > 25
    assert {name for name in names if not re.search(rf'\.{name}$', text, re.MULTILINE)} == set()


@pytest.mark.slow
def test_the_notebook(tmp_path, monkeypatch):
    """From top to bottom, with fewer scenes; tools/release_check.sh runs it at full length."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Runner, '_log_env', lambda self, env: None)
    notebook = json.loads((ROOT / 'notebooks/mvp_in_minutes.ipynb').read_text())
    cells = [cell for cell in notebook['cells'] if cell['cell_type'] == 'code']
    assert all(cell['outputs'] == [] and cell['execution_count'] is None for cell in cells)
    sizes = ast.parse(''.join(cells[0]['source']))
    names = {name.id for line in sizes.body for name in line.targets[0].elts}
    assert names == {'SCENES', 'EPOCHS', 'LABELLED', 'QUERIES'}
    names = dict(SCENES=128, EPOCHS=1, LABELLED=20, QUERIES=12)
    for cell in cells[1:]:
        exec(compile(''.join(cell['source']), cell['id'], 'exec'), names)
    assert names['targets'].shape == (4, 65, 96)
    assert Path('work_dirs/notebook/student_of_1_epochs.safetensors').is_file()


def test_the_dockerfile_copies_what_there_is():
    """It cannot be built here; what it names is there, and goes to the engine."""
    text = (ROOT / 'Dockerfile').read_text().replace('\\\n', ' ')
    ignored = (ROOT / '.dockerignore').read_text().splitlines()
    copied = [word for line in re.findall(r'^COPY (.*)$', text, re.MULTILINE) for word in line.split()[:-1]]
    assert {'setup.py', 'mvp_mm', 'configs', 'tools', 'requirements'} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists() and f'!{name}' in ignored, name
    for line in re.findall(r'pip install .*', text):
        check_pip([line])
    stages = re.findall(r'^FROM \S+ AS (\w+)$', text, re.MULTILINE)
    assert stages == ['cpu', 'cuda'] and 'FROM ${DEVICE}' in text


def test_the_release_check():
    """Its shell parses, and every file of the repository that it names is there."""
    script = ROOT / 'tools/release_check.sh'
    subprocess.run(['bash', '-n', script], check=True)
    for name in set(re.findall(r'(?:tools|notebooks)/[\w.]+', script.read_text())):
        assert (ROOT / name).is_file(), name
    done = subprocess.run(['bash', script, '--help'], capture_output=True, text=True, check=True)
    assert 'Usage: bash tools/release_check.sh' in done.stdout


@pytest.mark.slow
def test_the_site_builds(tmp_path):
    """Without a warning."""
    for package in ('sphinx', 'furo', 'myst_parser'):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f'{package} is not installed: pip install "mvp_mm[docs]"')
    command = [sys.executable, '-m', 'sphinx', '-q', '-W', '-b', 'html', ROOT / 'docs', tmp_path / 'site']
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in (ROOT / 'docs').glob('*.md'):
        assert (tmp_path / f'site/{page.stem}.html').is_file()
    method = (tmp_path / 'site/method.html').read_text()
    assert 'docs/figures/draw.py' in method and '](../' not in method
