"""A process of a job that fails or is killed ends the job, or has it started again; nothing hangs."""

import contextlib
import re
import shlex
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchrun_jobs import free_port, run

from mvp_mm.engine import run_command_line

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_killed_process_is_started_again_and_a_signal_is_passed_on(tmp_path):
    script = Path(__file__).with_name('restarted_run.py')
    command = [sys.executable, ROOT / 'tools/torchrun.py', '--nproc-per-node=2', '--max-restarts=1']
    status, output, _ = run([*command, f'--master-port={free_port()}', script, tmp_path])
    same = [f'rank={rank} number=8 losses=True weights=True' for rank in (0, 1)]
    assert sorted(re.findall(r'RESULT (.*?=\w+ .*?=\w+ .*?=\w+ .*?=(?:True|False))', output)) == same, output
    # torchrun got SIGTERM
    stopped = [f"rank={rank} (143, 'iter_4.pth')" for rank in (0, 1)]
    assert status != 0 and sorted(re.findall(r'STOPPED (.*?\))', output)) == stopped, output
    # one that is left can abort its process
    left = [f'rank={rank} threads=0' for rank in (0, 1)]
    assert sorted(re.findall(r'LEFT (rank=\d threads=\d+)', output)) == left, output


@pytest.mark.slow
def test_one_that_fails_ends_the_job_with_its_error(tmp_path):
    """Of twelve labelled images one is bad, and one of the two processes reads it."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for name in ('a', 'b'):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(6):
                path = tmp_path / split / name / f'{number}.png'
                Image.fromarray(rng.integers(0, 256, (70, 70, 3), dtype=np.uint8)).save(path)
    (tmp_path / 'train/a/3.png').write_bytes(b'')
    options = {
        'train_dataloader.dataset.data_root': tmp_path,
        'val_dataloader.dataset.data_root': tmp_path,
        'train_dataloader.num_workers': 0,
        'train_dataloader.batch_size': 2,
        'train_dataloader.sampler.total_batch': 4,
        'auto_scale_lr.base_batch_size': 4,
        'model.head.num_classes': 2,
        'model.backbone.init_cfg': None,
    }
    command = ['bash', ROOT / 'tools/dist_train.sh', ROOT / 'configs/finetune/vittiny_debug.py', 2]
    command += ['--work-dir', tmp_path / 'run', '--cfg-options']
    command += [f'{key}={value}' for key, value in options.items()]
    status, output, _ = run(command, PORT=str(free_port()))
    (process,) = re.findall(r'ERROR \(process (\d) of 2\): \S+/train/a/3.png cannot be read', output)
    assert status == 1
    # torchrun's summary says which one it was
    assert re.search(rf'Root Cause \(first observed failure\):\s+\[0\]:.*?rank\s+: {process} ', output, re.S)
    assert 'Traceback' not in output, output


@pytest.fixture
def launch(tmp_path):
    """dist_train.sh in an environment whose torchrun prints its arguments: status and output."""
    python = tmp_path / 'env/bin/python'
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\n[ "$1" = - ] && exec {shlex.quote(sys.executable)} "$@"\necho "$@"\n')
    python.chmod(0o755)
    command = ['bash', ROOT / 'tools/dist_train.sh', ROOT / 'configs/mvp/vittiny_debug.py', 2]
    return lambda **environment: run(command, VIRTUAL_ENV=str(tmp_path / 'env'), **environment)[:2]


def test_a_port_in_use(launch):
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = str(server.getsockname()[1])
        status, output = launch(PORT=port)
        says = rf'port {port} of this machine cannot be used .*, by another job perhaps: give .*, such as'
        assert status == 1 and re.fullmatch(rf'dist_train.sh: {says} PORT=\d+\n', output)
        status, output = launch(PORT=port, NNODES='2')
        assert status == 1 and output.endswith(', on every machine of the job\n')
        status, output = launch(PORT=port, NNODES='2', NODE_RANK='1')  # the first machine's affair
        assert status == 0 and f'--master_port {port} ' in output
    status, output = launch(PORT=port)
    assert status == 0 and f'--master_port {port} ' in output and output.count('\n') == 1


def test_the_usual_port_in_use(launch):
    with contextlib.suppress(OSError), socket.create_server(('127.0.0.1', 29500)):  # or it is in use anyway
        status, output = launch()
    said = re.search(
        r'dist_train.sh: port 29500 is in use, so this job takes port (\d+); PORT= chooses one', output
    )
    assert status == 0 and said and f'--master_port {said[1]} ' in output and said[1] != '29500'


@pytest.mark.parametrize('processes', [1, 2])
def test_a_lost_peer_is_told_in_one_line(processes, monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', str(processes))
    monkeypatch.setenv('RANK', '0')

    def lose():
        raise RuntimeError('[pair.cc:545] Read error [127.0.0.1]:19142: Connection reset by peer')

    with pytest.raises(SystemExit) as ended:
        run_command_line(lose)
    said = ' (process 0 of 2)' if processes == 2 else ''
    assert str(ended.value).startswith(f'\nERROR{said}: another process of this job has ended')


def test_a_mistake_in_the_code_keeps_its_traceback():
    def fail():
        raise RuntimeError('shapes do not fit')

    with pytest.raises(RuntimeError, match='shapes do not fit'):
        run_command_line(fail)
