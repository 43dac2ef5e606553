import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchrun_jobs import forked

from mvp_mm.datasets import EpochSampler, UnreadableImageError
from mvp_mm.engine import UnreadableImagesHook, build_runner, load_config

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / 'configs' / 'mvp' / 'vittiny_debug.py'


def write_images(folder, number):
    rng = np.random.default_rng(0)
    folder.mkdir()
    paths = []
    for i in range(number):
        paths.append(folder / f'{i:02d}.jpg')
        pixels = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((80, 80)).save(paths[-1])
    return paths


def options(root, **more):
    return {
        'train_dataloader.dataset.data_root': str(root),
        'train_dataloader.batch_size': 4,
        'train_dataloader.num_workers': 0,
        'train_dataloader.sampler.total_batch': 4,
        'auto_scale_lr.base_batch_size': 4,
        'model.backbone.arch.num_layers': 1,
        'train_cfg.max_epochs': 1,
        'default_hooks.checkpoint.interval': 1,
        'visualizer.vis_backends': [],
        **more,
    }


@pytest.fixture
def images(tmp_path):
    """Twenty images, two of them bad: a truncated one and one of zero bytes."""
    paths = write_images(tmp_path / 'images', 20)
    paths[3].write_bytes(paths[3].read_bytes()[:700])
    paths[12].write_bytes(b'')
    return paths


@pytest.fixture
def train(tmp_path):
    """``train(max_share=..., resume=..., **options)``: train on the images, and give the runner."""

    def run(max_share=0.1, resume=False, **more):
        cfg = load_config(
            str(CONFIG), str(tmp_path / 'work'), cfg_options=options(tmp_path / 'images', **more)
        )
        cfg.custom_hooks = [dict(type='UnreadableImagesHook', max_share=max_share)]
        cfg.resume = resume
        runner = build_runner(cfg)
        runner.train()
        return runner

    return run


def listed(tmp_path):
    lines = (tmp_path / 'work' / 'bad_images.txt').read_text().splitlines()
    return dict(line.split('\t') for line in lines)


@pytest.mark.slow
def test_bad_images_are_listed(tmp_path, images, train):
    runner = train()
    assert runner.iter == 5
    found = listed(tmp_path)
    assert set(found) == {str(images[3]), str(images[12])}
    assert found[str(images[3])].startswith('OSError: image file is truncated')
    assert found[str(images[12])].startswith('UnidentifiedImageError: cannot identify')
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    assert log.count('Unreadable image replaced by another: ') == 2
    assert f'2 unreadable images so far, listed in {tmp_path}/work/bad_images.txt' in log


def test_no_list_without_bad_images(tmp_path, train):
    write_images(tmp_path / 'images', 8)
    train()
    assert not (tmp_path / 'work' / 'bad_images.txt').exists()


def test_found_by_workers(tmp_path, images, train):
    train(**{'train_dataloader.num_workers': 1})
    assert set(listed(tmp_path)) == {str(images[3]), str(images[12])}


@pytest.mark.slow
def test_too_large_a_share_stops_the_run(tmp_path, images, train):
    with pytest.raises(
        UnreadableImageError, match='2 of 20 images .* share of 0.05 .*max_share.*bad_images.txt'
    ):
        train(max_share=0.05)
    assert set(listed(tmp_path)) == {str(images[3]), str(images[12])}
    train(max_share=0.1)  # two of twenty is not above


def test_resumed_run_keeps_the_list(tmp_path, images, train):
    train()
    before = listed(tmp_path)
    good = images[0].read_bytes()
    images[3].write_bytes(good)
    images[12].write_bytes(good)
    images[7].write_bytes(b'')
    runner = train(max_share=0.2, resume=True, **{'train_cfg.max_epochs': 2})
    assert runner.epoch == 2
    assert runner.iter == 10
    after = listed(tmp_path)
    assert set(after) == {*before, str(images[7])}
    assert before.items() <= after.items()


@pytest.mark.slow
def test_new_run_in_the_same_folder_starts_afresh(tmp_path, images, train):
    train()
    good = images[0].read_bytes()
    images[3].write_bytes(good)
    images[12].write_bytes(good)
    images[7].write_bytes(b'')
    train(max_share=0.05)  # would stop, were the old ones counted
    assert set(listed(tmp_path)) == {str(images[7])}


@pytest.mark.parametrize('share', [-0.1, 1.5])
def test_share_out_of_range(share):
    with pytest.raises(ValueError, match=f'max_share={share}'):
        UnreadableImagesHook(max_share=share)


def train_beside(folder, values):
    """Train in one of the processes of a job; its rank."""
    cfg = load_config(str(CONFIG), str(folder / 'work'), 'pytorch', values)
    runner = build_runner(cfg)
    runner.train()
    return runner.rank


@pytest.mark.slow
@pytest.mark.parametrize('places', [(0, 1), (14, 15)], ids=['first', 'last'])
def test_two_processes(places, tmp_path):
    images = write_images(tmp_path / 'images', 16)
    order = [int(index) for index in EpochSampler(images, total_batch=16, seed=0)]
    bad = {str(images[order[place]]) for place in places}  # one for each process
    for path in bad:
        Path(path).write_bytes(b'')
    values = options(tmp_path / 'images', **{'custom_hooks.1.max_share': 0.5})
    assert forked(train_beside, tmp_path, values) == [0, 1]
    assert set(listed(tmp_path)) == bad
    # The first process, which alone writes the log, met one of the two itself.
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    assert log.count('Unreadable image replaced by another: ') == 2
    assert '2 unreadable images so far' in log


@pytest.mark.slow
def test_names_that_are_no_text(tmp_path, train):
    write_images(tmp_path / 'images', 19)
    bad = os.fsencode(tmp_path / 'images') + b'/caf\xe9.jpg'
    with open(bad, 'wb') as file:
        file.write(b'no image')
    train()
    assert (tmp_path / 'work/bad_images.txt').read_bytes().startswith(bad + b'\t')
    assert 'caf\\udce9.jpg' in next((tmp_path / 'work').glob('*/*.log')).read_text()
    train(resume=True, **{'train_cfg.max_epochs': 2})
    assert (tmp_path / 'work/bad_images.txt').read_bytes().count(b'\n') == 1
