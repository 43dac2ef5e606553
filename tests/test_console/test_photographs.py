import shlex
import sys
from pathlib import Path

import pytest
from conftest import write_images
from mmengine.config import Config
from mmpretrain.registry import DATASETS

import mvp_mm_command
from mvp_mm.console.photographs import look_at_photographs
from mvp_mm.datasets import write_shards

ROOT = Path(__file__).parents[2]


def printed(capsys, *arguments):
    """Lines that look_at_photographs prints, and how many failures it finds."""
    failures = look_at_photographs(*arguments)
    return capsys.readouterr().out.splitlines(), failures


def command_in(lines):
    return next(line for line in lines if line.startswith('mvp-mm pretrain'))


def test_what_is_told(tmp_path, capsys):
    write_images(tmp_path / 'photos', 5, (300, 200))
    (tmp_path / 'photos/5.jpg').write_bytes((tmp_path / 'photos/0000.jpg').read_bytes())
    (tmp_path / 'photos/6.jpg').write_text('no image')
    lines, failures = printed(capsys, str(tmp_path / 'photos'), 20_000, 1)
    text = '\n'.join(lines)
    assert failures == 1 and 'training ends at more than 10%' in text  # 1 of 7 is more
    assert f'7 images of {tmp_path}/photos, by UnlabelledImages' in text and '--sample' not in text
    assert '1 of 7 cannot be read' in text and '1 copy, such as' in text
    assert 'shorter side in pixels: smallest 200, 5 % 200, median 200' in text
    assert '100.0% than 224, 0.0% than 112' in text and 'longer side over shorter: smallest 1.50' in text
    assert 'image size: 112 x 112 pixels, patches of 8' in text and 'docs/choosing.md' in text
    lines, _ = printed(capsys, str(tmp_path / 'photos'), 3, 1)
    assert any('a sample of 3 was looked at (--sample)' in line for line in lines)


def test_nothing_to_train_on_is_a_failure(tmp_path, capsys):
    (tmp_path / 'a.jpg').write_text('no image')
    lines, failures = printed(capsys, str(tmp_path), 10, 1)
    assert failures == 1 and not any('What to train' in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize('size', [(300, 200), (600, 500), (64, 70)])
def test_its_command_runs(size, tmp_path, capsys, monkeypatch):
    """To a config whose crops and masks fit the student."""
    write_images(tmp_path / 'photos', 8, size)
    lines, _ = printed(capsys, str(tmp_path / 'photos'), 20_000, 1)
    words = shlex.split(command_in(lines).replace('work_dirs/mine', str(tmp_path / 'mine')))
    monkeypatch.setattr(sys, 'argv', [*words[:1], *words[1:2], '--dry-run', *words[2:]])
    mvp_mm_command.main()
    cfg = Config.fromfile(tmp_path / 'mine/pretrain.py')
    model, side = cfg.model, 224 if min(size) >= 224 else 112 if min(size) >= 112 else 64
    assert model.backbone.img_size == side
    assert model.target_generator.patch_size == model.backbone.patch_size == (16 if side == 224 else 8)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    sample = dataset[0]
    grid = side // model.backbone.patch_size
    assert sample['inputs'].shape == (3, side, side) and sample['mask'].shape == (grid, grid)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['list', 'shards'])
def test_its_command_for_lists_and_shards_runs(kind, tmp_path, capsys, monkeypatch):
    paths = write_images(tmp_path / 'photos', 8, (600, 500))
    place = tmp_path / 'photos/some.txt'
    if kind == 'list':
        place.write_text('\n'.join(path.name for path in paths[:6]))
    else:
        place = tmp_path / 'shards'
        write_shards(str(tmp_path / 'photos'), str(place))
    lines, _ = printed(capsys, str(place), 20_000, 1)
    words = shlex.split(command_in(lines).replace('work_dirs/mine', str(tmp_path / 'mine')))
    monkeypatch.setattr(sys, 'argv', [*words[:2], '--dry-run', *words[2:]])
    mvp_mm_command.main()
    cfg = Config.fromfile(tmp_path / 'mine/pretrain.py')
    assert len(DATASETS.build(cfg.train_dataloader.dataset)) == (6 if kind == 'list' else 8)
    assert len(DATASETS.build(cfg.test_dataloader.dataset)) == (6 if kind == 'list' else 8)
    assert cfg.train_dataloader.sampler.type == ('EpochSampler' if kind == 'list' else 'ShardSampler')
    assert [(part.begin, part.end) for part in cfg.param_scheduler] == [(0, 3), (3, 100)]
    assert cfg.train_cfg.max_epochs == 100


def test_the_command_line(tmp_path, capsys, monkeypatch):
    write_images(tmp_path, 3)
    monkeypatch.setattr(
        sys, 'argv', ['mvp-mm', 'doctor', '--data', str(tmp_path), '--sample', '2', '--workers', '1']
    )
    with pytest.raises(SystemExit) as ended:
        mvp_mm_command.main()
    assert ended.value.code == 0 and 'a sample of 2' in capsys.readouterr().out
    for arguments, match in (
        (['--data', 'nowhere'], 'ERROR: there is no folder, list or shard nowhere'),
        (['--data', str(tmp_path), '--sample', '0'], '--sample'),
    ):
        monkeypatch.setattr(sys, 'argv', ['mvp-mm', 'doctor', *arguments])
        with pytest.raises(SystemExit) as ended:
            mvp_mm_command.main()
        assert match in f'{ended.value.code}{capsys.readouterr().err}'
