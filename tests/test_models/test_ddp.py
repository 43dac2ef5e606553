import os
import re
import subprocess
import sys
from pathlib import Path


def test_two_processes_average_to_the_joined_batch(tiny_clip):
    """Two gloo processes with half a batch each have the gradients of one process with all of it."""
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node=2', '--standalone']
    script = Path(__file__).with_name('ddp_gradients.py')
    root = str(script.parents[2])
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', 'PYTHONPATH': root}
    done = subprocess.run(
        [*command, str(script), tiny_clip('ddp')], env=env, capture_output=True, text=True, timeout=240
    )
    results = re.findall(r'RESULT rank=(\d) worst=(\S+) scale=(\S+) teacher_parameters=(\d+)', done.stdout)
    assert len(results) == 2, done.stdout + done.stderr
    for _, worst, scale, teacher_parameters in results:
        assert float(scale) > 1e-2
        assert float(worst) < 1e-6
        assert teacher_parameters == '0'
