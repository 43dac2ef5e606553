"""Configs from files and options."""

import copy
import pickle
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from yapf.yapflib import yapf_api

from mvp_mm.engine import argument_parser, build_runner, load_config, set_loader_option, train_only
from mvp_mm.engine.checkpoint.work_dir_lock import config_name, lock_work_dir
from mvp_mm.engine.config import CachedConfigText
from mvp_mm.engine.loops.evaluator_loop import use_evaluators

CONFIGS = Path(__file__).parents[2] / 'configs'
DEBUG = str(CONFIGS / 'mvp/vittiny_debug.py')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'trian_cfg.max_epochs': 1}, 'nothing reads a key `trian_cfg`; did you mean train_cfg'),
        (
            {'data_root': 'x'},
            '`data_root` is a variable of the config file.*train_dataloader.dataset.data_root',
        ),
        ({'nonsense': 1}, 'nothing reads a key `nonsense`$'),
    ],
)
def test_options_that_nothing_reads(options, message):
    with pytest.raises(ValueError, match=message):
        load_config(DEBUG, cfg_options=options)


def test_evaluators_are_part_of_the_validation():
    cfg = load_config(str(CONFIGS / 'mvp/vittiny_photographs.py'))
    set_loader_option(cfg, 'pin_memory', False)
    loaders = [value for one in cfg.evaluators for key, value in one.items() if key.endswith('dataloader')]
    assert len(loaders) > len(cfg.evaluators) and not any(loader.pin_memory for loader in loaders)
    train_only(cfg)
    use_evaluators(cfg)
    assert cfg.val_cfg is None and 'evaluators' not in cfg


def test_options_that_something_reads():
    options = ['load_from=x', 'resume=True', 'find_unused_parameters=True', 'tta_model.type=X']
    arguments = argument_parser('').parse_args(['c.py', '--cfg-options', *options])
    cfg = load_config(DEBUG, cfg_options=arguments.cfg_options)
    assert (cfg.load_from, cfg.resume, cfg.tta_model.type) == ('x', True, 'X')


def test_configs_of_one_name_do_not_share_a_work_dir(tmp_path, monkeypatch, capsys):
    """Fine-tuning by its default would replace the checkpoints that it starts from."""
    monkeypatch.chdir(tmp_path)
    finetune = str(CONFIGS / 'finetune/vittiny_debug.py')
    folder = Path(load_config(DEBUG).work_dir)
    assert str(folder) == load_config(finetune).work_dir == 'work_dirs/vittiny_debug'
    folder.mkdir(parents=True)
    with lock_work_dir(folder, config_name(DEBUG)):
        assert load_config(finetune).work_dir == str(folder)  # there is nothing to lose yet
        (folder / 'epoch_1.pth').touch()
        assert load_config(finetune).work_dir == 'work_dirs/finetune_vittiny_debug'
    assert 'holds a run of mvp/vittiny_debug.py, so this one has the work dir' in capsys.readouterr().err
    assert load_config(DEBUG).work_dir == str(folder)
    assert load_config(finetune, str(folder)).work_dir == str(folder)  # as the user says


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('a.md', '# hello', 'cannot be read as a config: OSError: Only py/yml'),
        ('a.py', 'model = dict(', 'cannot be read as a config: SyntaxError'),
        ('a.py', "_base_ = 'mvpmm::mvp/vitb16_in1k.py'", 'cannot be read as a config: .*mvpmm'),
        ('a.py', "custom_imports = dict(imports=['missing'], allow_failed_imports=False)", "'missing'$"),
        ('a.py', 'x = 1', 'no config of a model: it has no `model`'),
        ('a.json', '[1]', 'a.json'),
    ],
)
def test_files_that_are_no_configs(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(str(tmp_path / name))


def test_validations_are_logged_as_they_are():
    """MMEngine averages what its pattern matches over the last values, which is for training only."""
    pattern = load_config(str(CONFIGS / 'mvp/vittiny_scenes.py')).log_processor.mean_pattern
    for key in ('loss', 'cosine_cls', 'cosine_masked', 'grad_norm', 'images_per_second'):
        assert re.search(pattern, key)
    for key in ('target_cosine/cosine', 'target_cosine/excess', 'target_cosine/cls', 'mIoU', 'accuracy/top1'):
        assert not re.search(pattern, key)


@pytest.fixture
def formatted(formatted_configs, monkeypatch):
    """The texts that yapf was asked to format."""
    texts, format_code = [], yapf_api.FormatCode

    def counted(text, **options):
        texts.append(text)
        return format_code(text, **options)

    monkeypatch.setattr(yapf_api, 'FormatCode', counted)
    return texts


def test_text_is_made_once_and_follows_changes(formatted, tmp_path):
    path = tmp_path / 'some.py'
    path.write_text("a = [1, dict(b='c')]\nd = None\n")
    plain = Config.fromfile(path)
    cfg = CachedConfigText.of(plain)
    expected = plain.pretty_text
    formatted.clear()
    assert cfg.pretty_text == copy.deepcopy(cfg).pretty_text == cfg.dump() == expected
    assert len(formatted) == 1
    cfg.a[1].b = 'changed'
    cfg.merge_from_dict({'e.f': 2})
    assert "b='changed'" in cfg.pretty_text and 'e = dict(f=2)' in cfg.pretty_text
    assert len(formatted) == 2
    again = pickle.loads(pickle.dumps(cfg))
    assert type(again) is CachedConfigText and again.pretty_text == cfg.pretty_text
    assert cfg.filename == again.filename == str(path)


def test_a_run_formats_its_config_once(image_folder, tmp_path, formatted):
    cfg = load_config(DEBUG, str(tmp_path / 'run'))
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset.data_root = str(image_folder)
    cfg.model.backbone.arch.num_layers = 1
    cfg.train_cfg.max_epochs = 2
    cfg.default_hooks.checkpoint.interval = 1
    runner = build_runner(cfg)
    runner.train()
    assert len(formatted) == 1
    saved = [torch.load(path, weights_only=True)['meta']['cfg'] for path in (tmp_path / 'run').glob('*.pth')]
    assert len(saved) == 2 and set(saved) == {runner.cfg.pretty_text} == {cfg.pretty_text}
