import random
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from benchmarks import data as measure
from benchmarks.data import crop_comparison, loader_speed

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / 'tools/analysis_tools'


def run(tool, *arguments, monkeypatch):
    monkeypatch.setattr(sys, 'argv', [f'tools/analysis_tools/{tool}', *map(str, arguments)])
    threads = torch.get_num_threads()
    try:
        runpy.run_path(str(TOOLS / tool), run_name='__main__')
    finally:
        torch.set_num_threads(threads)


def rows(table, first):
    """Cells of the lines of Markdown that begin with a cell."""
    lines = [line.strip('|').split('|') for line in table.splitlines() if line.startswith(f'| {first}')]
    return [[cell.strip() for cell in line] for line in lines]


def test_crops_are_beits(image_folder):
    paths = sorted(image_folder.rglob('*.jpg'))
    found = measure.compare_crops(paths, rounds=8, size=64)
    assert found.count == 64
    assert found.largest <= 4
    assert found.mean < 0.5
    assert abs(found.bias) < 0.1
    assert found.share_above[2] < 0.01
    assert found.worst_crop < 1.5
    assert found.statistics.keys() == crop_comparison.STATISTICS.keys()
    for _, _, distance, p in found.statistics.values():
        assert distance < 0.35
        assert p > 0.001


def test_photographs_crops_are_beits(photographs):
    paths = measure.image_paths(str(photographs), 40)
    assert len(set(paths)) == 40
    found = measure.compare_crops(paths, size=128)
    assert found.mean < 0.4
    assert abs(found.bias) < 0.05
    assert found.share_above[2] < 0.003
    for name, (_, _, _, p) in found.statistics.items():
        assert p > 0.001, name


def test_a_shift_is_found(image_folder, monkeypatch):
    """The comparison sees what it is there to see: crops a little too bright."""
    fast_crop = crop_comparison.fast_crop
    monkeypatch.setattr(crop_comparison, 'fast_crop', lambda *args: fast_crop(*args) // 2 + 127)
    found = measure.compare_crops(sorted(image_folder.rglob('*.jpg')), rounds=8, size=32)
    assert found.bias > 20
    assert found.statistics['mean red'][3] < 1e-6
    assert found.statistics['contrast (standard deviation of grey)'][3] < 1e-6


@pytest.mark.slow
def test_crops_tool(image_folder, tmp_path, monkeypatch, capsys):
    sheet = tmp_path / 'sheet.png'
    run('compare_crops.py', image_folder, '--rounds', 1, '--sheet', sheet, monkeypatch=monkeypatch)
    printed = capsys.readouterr().out
    assert 'With the same draws, 8 crops' in printed
    assert len(rows(printed, 'mean red')[0]) == 5
    pixels = np.asarray(Image.open(sheet)).astype(int)
    assert pixels.shape == (3 * 224, 8 * 224, 3)
    ours, beits, difference = pixels[:224], pixels[224:448], pixels[448:]
    assert (difference == np.clip(16 * np.abs(ours - beits), 0, 255)).all()


def test_variants_take_turns():
    order = []
    variants = {name: lambda number, name=name: order.append((name, number)) for name in 'ab'}
    random.seed(0)
    found = loader_speed.interleaved(variants, 25, rounds=2)
    assert len(order) == 2 * 25 * 3  # the first round does not count
    for name in 'ab':
        assert [number for each, number in order if each == name] == 3 * list(range(25))
        assert len(found[name].wall) == len(found[name].cpu) == 2
    assert {name for name, _ in order[:20]} == {'a', 'b'}


def test_ratio_is_the_median_over_rounds():
    assert measure.Timing(cpu=[2.0, 8.0, 9.0]).ratio(measure.Timing(cpu=[1.0, 2.0, 1.0])) == 4.0


def test_seconds_an_image_by_both_clocks(monkeypatch):
    clocks = dict(perf_counter=0.0, process_time=0.0)
    for name in clocks:
        monkeypatch.setattr(loader_speed.time, name, lambda name=name: clocks[name])

    def waits(number):
        clocks['perf_counter'] += 3
        clocks['process_time'] += 1

    found = loader_speed.interleaved({'waits': waits}, 2, rounds=2)['waits']
    assert found.wall == [3, 3] and found.cpu == [1, 1]


def test_peer_is_mmpretrains_recipe():
    steps = {step['type']: step for step in loader_speed.peer_pipeline()}
    assert list(steps) == [
        'LoadImageFromFile',
        'ColorJitter',
        'RandomFlip',
        'RandomResizedCropAndInterpolationWithTwoPic',
        'BEiTMaskGenerator',
        'PackInputs',
    ]
    crop = steps['RandomResizedCropAndInterpolationWithTwoPic']
    assert (crop['size'], crop['second_size'], tuple(crop['scale'])) == (224, 112, (0.08, 1.0))
    single = loader_speed.without_second_picture(loader_speed.peer_pipeline())
    assert [step.get('second_size', 0) for step in single] == [0, 0, 0, None, 0, 0]


def test_every_pipeline_gives_a_crop_and_a_mask(image_folder):
    paths = [str(path) for path in image_folder.rglob('*.jpg')]
    peer = loader_speed.peer_pipeline()
    ours = Config.fromfile(ROOT / 'configs/mvp/vitb16_in1k.py').train_pipeline
    for pipeline, pictures in ((peer, 2), (loader_speed.without_second_picture(peer), 1)):
        inputs = loader_speed._unseeded(loader_speed.build(pipeline), paths, 0)['inputs']
        inputs = inputs if isinstance(inputs, list) else [inputs]
        assert [tuple(each.shape) for each in inputs] == [(3, 224, 224), (3, 112, 112)][:pictures]
    tensors = loader_speed.build([loader_speed.TensorCrop(), *ours[1:]])
    for sample in (
        loader_speed._unseeded(tensors, paths, 0),
        loader_speed._seeded(loader_speed.build(ours), paths, 0),
    ):
        assert sample['inputs'].shape == (3, 224, 224) and sample['inputs'].dtype == torch.uint8
        assert sample['mask'].sum() == 75


@pytest.mark.slow
def test_speed_tool(image_folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'data.md'
    arguments = (image_folder, '--rounds', 1, '--images', 2, '--out', out)
    run('benchmark_data.py', *arguments, monkeypatch=monkeypatch)
    written = out.read_text()
    tables = [line for line in capsys.readouterr().out.splitlines() if line.startswith('|')]
    assert len(tables) > 20 and set(tables) <= set(written.splitlines())
    assert '2 images, medians of 1 rounds' in written
    assert 'tools/analysis_tools/benchmark_data.py' in written
    assert 'torch ' in written and '* Hardware: ' in written
    for pipeline in (loader_speed.OURS, loader_speed.MMPRETRAIN, loader_speed.TORCHVISION):
        cells = rows(written, f'{pipeline} |')[0]
        assert float(cells[1]) == pytest.approx(1000 / float(cells[2]), rel=0.05)
    assert len(rows(written, 'mask')) == 1


@pytest.mark.slow
def test_reading(image_folder, monkeypatch, capsys):
    paths = measure.image_paths(str(image_folder))
    found = measure.measure_reading(paths, side=64, rounds=1)
    assert len(found) == 4 and all(len(timing.cpu) == 1 for timing in found.values())
    run('benchmark_data.py', image_folder, '--reading', '--rounds', 1, monkeypatch=monkeypatch)
    printed = capsys.readouterr().out
    shards = rows(printed, 'shards of the same (ImageTextShards)')
    assert len(shards) == 2 and all(float(row[1]) > 0 and float(row[3]) > 0 for row in shards)
    assert len(rows(printed, 'folder')) == 4
