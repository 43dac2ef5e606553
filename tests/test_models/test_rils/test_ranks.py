import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # three processes import the stack


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    """What two gloo processes with half a batch each find; see rils_ranks.py."""
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node=2', '--standalone']
    script = Path(__file__).with_name('rils_ranks.py')
    env = dict(os.environ, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    folder = tmp_path_factory.mktemp('ranks')
    done = subprocess.run(
        [*command, str(script), str(folder)], env=env, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads((folder / f'found{rank}.json').read_text()) for rank in range(2)]


def test_two_processes_equal_the_joined_batch(found):
    """Losses, retrieval and gradients."""
    for rank in found:
        ours = rank['ours']
        assert max(ours['parts']) < 1e-10 and ours['gradient'] < 1e-10 < 1e-3 < ours['scale']
        assert 0 < ours['retrieved'] <= 100


def test_two_processes_in_the_authors_way_equal_their_code(found):
    for rank in found:
        theirs = rank['authors']
        assert theirs['loss'] < 1e-10 and theirs['gradient'] < 1e-10 < 1e-3 < theirs['scale']
        assert rank['ways differ by'] > 1e-3  # or nothing would have been tested
