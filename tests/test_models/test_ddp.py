import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # three processes import the stack


@pytest.fixture(scope='module')
def differences(tmp_path_factory):
    """Two gloo processes with half a batch each, beside one process with all of it, by method."""
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node=2', '--standalone']
    script = Path(__file__).with_name('ddp_gradients.py')
    env = dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    folder = tmp_path_factory.mktemp('models')
    done = subprocess.run(
        [*command, str(script), str(folder)], env=env, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = [json.loads((folder / f'found{rank}.json').read_text()) for rank in range(2)]
    return {method: [result[method] for result in results] for method in ('MVP', 'CLIP')}


@pytest.mark.parametrize('method', ['MVP', 'CLIP'])
def test_two_processes_average_to_the_joined_batch(differences, method):
    for found in differences[method]:
        assert found['scale'] > 1e-2 and found['gradient'] < 1e-6


def test_the_teacher_is_off_ddps_list(differences):
    assert [found['teacher_parameters'] for found in differences['MVP']] == [0, 0]


def test_clip_compares_the_samples_of_both_processes(differences):
    """Each process has the joined batch's loss, which is not that of its half."""
    for found in differences['CLIP']:
        assert found['loss'] < 1e-6 and found['loss_of_half'] > 1e-2
