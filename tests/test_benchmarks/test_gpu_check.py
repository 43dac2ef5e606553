"""The GPU check's frame: what it writes, whatever its stages do; the stages themselves need a GPU."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmpretrain.registry import MODELS

from benchmarks.gpu import stages
from benchmarks.gpu.check import check_gpu
from benchmarks.gpu.one_process import debug_config, use_kernels_of_bf16
from benchmarks.gpu.report import Report, read_lines, shown, table
from benchmarks.gpu.stages import Stage
from mvp_mm.engine.config_check import require_sound_values

pytestmark = pytest.mark.slow

TOOL = Path(__file__).parents[2] / 'tools/analysis_tools/gpu_check.py'
STAGES = {
    'good': """
def run(report, scale):
    report.at_most('error', 0.5, 1.0, 'mm')
    report.at_least('speed', 1.0, 2.0)
    report.add('scale', scale)
""",
    'bad': """
def run(report, scale):
    report.add('before', 1)
    raise ValueError('no such thing')
""",
    'crash': """
import os, signal
def run(report, scale):
    os.kill(os.getpid(), signal.SIGSEGV)
""",
    'long': """
import subprocess, time
def run(report, scale):
    child = subprocess.Popen(['sleep', '600'], start_new_session=True)
    report.add('child', child.pid)
    time.sleep(600)
""",
}


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """``stage(number, name, limit)``: one of the stages above."""
    for name, source in STAGES.items():
        (tmp_path / f'gpu_check_{name}.py').write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ('OMP_NUM_THREADS', 'PYTHONPATH'):  # which the check sets for its children
        monkeypatch.setenv(name, os.environ.get(name, ''))
    monkeypatch.setattr(torch.cuda, '_is_in_bad_fork', lambda: False)  # these stages use no GPU
    return lambda number, name, limit=60.0: Stage(number, f'gpu_check_{name}', 1.0, limit)


def is_alive(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def ends(folder):
    return {line['stage']: line for line in read_lines(folder) if line['name'] == 'stage'}


def test_a_stage_that_fails_or_overruns_does_not_stop_the_others(stage, tmp_path):
    out = tmp_path / 'out'
    groups = [
        [stage(1, 'bad')],
        [stage(2, 'long', 8.0), stage(3, 'good')],
        [stage(4, 'crash')],
        [stage(5, 'good')],
    ]
    text = check_gpu(groups, out, 300)
    end = ends(out)
    assert {number: line['status'] for number, line in end.items()} == {
        1: 'failed',
        2: 'timeout',
        3: 'ok',
        4: 'failed',
        5: 'ok',
    }
    assert 'ValueError: no such thing' in end[1]['error']
    assert 'SIGSEGV' in end[4]['error']
    found = {(line['stage'], line['name']): line for line in read_lines(out) if line['name'] != 'stage'}
    assert found[1, 'before']['value'] == 1
    assert found[5, 'error'] == dict(
        stage=5, name='error', value=0.5, unit='mm', criterion='≤ 1', passed=True
    )
    assert found[5, 'speed']['passed'] is False and found[5, 'scale']['passed'] is None
    child = found[2, 'child']['value']
    deadline = time.monotonic() + 60
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(child), 'what a stage began outlives it'
    assert text == (out / 'table.md').read_text()
    assert '| 5 | error | 0.5 mm | ≤ 1 | yes |' in text and '| 5 | speed | 1 | ≥ 2 | **no** |' in text
    assert '**timeout**' in text and 'no such thing' in text
    log = (out / 'log.txt').read_text()
    assert '===== stage 2: gpu_check_long' in log and 'time.sleep' not in log
    assert sorted(path.name for path in out.iterdir()) == ['log.txt', 'results.jsonl', 'table.md']


def test_what_does_not_fit_into_the_time_is_left_out(stage, tmp_path):
    out = tmp_path / 'out'
    check_gpu([[stage(1, 'long')], [stage(2, 'good')]], out, 10)
    end = ends(out)
    assert end[1]['status'] == 'timeout'
    assert end[2]['status'] == 'skipped'


def test_results_of_a_run_replace_those_of_the_last(stage, tmp_path):
    for number in (1, 2):
        check_gpu([[stage(number, 'good')]], tmp_path / 'out', 60, 'debug')
    assert set(ends(tmp_path / 'out')) == {2}


def test_lines_that_were_cut_off_are_left_out(tmp_path):
    Report(tmp_path, 1, tmp_path).add('card', 'a | card')
    with (tmp_path / 'results.jsonl').open('a') as file:
        file.write('{"stage": 1, "na')
    assert [line['name'] for line in read_lines(tmp_path)] == ['card']
    text = table(tmp_path, 'python x', '2026-01-02')
    assert text.startswith('## GPU check, a | card') and '| 1 | card | a / card |' in text
    assert json.loads((tmp_path / 'results.jsonl').read_text().splitlines()[0])['value'] == 'a | card'


def test_a_value_for_people():
    assert [shown(value) for value in (None, 'a', 3, 12345.6, 0.00012345)] == [
        '',
        'a',
        '3',
        '12346',
        '0.0001234',
    ]


def test_not_a_number_passes_nothing(tmp_path):
    report = Report(tmp_path, 1, tmp_path)
    nan = float('nan')
    report.at_most('a', nan, 1)
    report.at_least('b', nan, 1)
    report.near('c', nan, 1, 1)
    assert [line['passed'] for line in read_lines(tmp_path)] == [False] * 3


def test_the_plan():
    numbers = [stage.number for group in stages.PLAN for stage in group]
    assert sorted(numbers) == [*range(1, 15), 16, 17]  # 15 is gone, and its number is not given again
    assert all(len(group) <= 4 for group in stages.PLAN)
    assert all(stage.seconds < stage.limit for group in stages.PLAN for stage in group)
    assert [[s.number for s in group] for group in stages.chosen([4, 5, 2])] == [[2, 4], [5]]
    with pytest.raises(ValueError, match='there is no stage \\[99\\]'):
        stages.chosen([99])


def test_the_tool_says_which_stages_there_are(tmp_path):
    command = [sys.executable, str(TOOL), '--out', str(tmp_path), '--stages', '99']
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and 'there is no stage [99]' in result.stderr


def test_without_a_gpu_it_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, str(TOOL), '--out', str(tmp_path / 'out')],
        capture_output=True,
        text=True,
        env=dict(os.environ, CUDA_VISIBLE_DEVICES=''),
    )
    assert done.returncode == 1 and 'torch finds none' in done.stderr
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('name', ['vitb16_in1k', 'vith16_in1k_fsdp'])
def test_configs_of_one_process_are_sound(name, image_folder):
    """What the stage dumps is accepted when a training reads it."""
    cfg = debug_config(name, image_folder)
    require_sound_values(cfg)
    assert cfg.train_dataloader.dataset.data_root == str(image_folder)
    use_kernels_of_bf16(cfg)
    require_sound_values(cfg)
    model = MODELS.build(cfg.model)
    assert next(model.backbone.layers.parameters()).dtype == torch.float32
    assert sum(value.nbytes for value in model.backbone.layers[0].parameters()) > 2**20
