import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path


def test_two_processes_validate_one_model(tmp_path):
    """They train on different numbers, and validate with the first one's statistics."""
    script = Path(__file__).with_name('validated_statistics.py')
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node=2', '--standalone']
    env = {
        **os.environ,
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '',
        'PYTHONPATH': str(script.parents[2]),
    }
    done = subprocess.run(
        [*command, str(script), str(tmp_path)], env=env, capture_output=True, text=True, timeout=240
    )
    lines = re.findall(r'RESULT (\w+) rank=(\d) iter=(\d) (\[.*?\])', done.stdout)
    seen = defaultdict(list)
    for what, rank, iteration, values in sorted(lines):
        seen[what, int(iteration) - (what == 'validated')].append((int(rank), values))
    assert set(seen) == {(what, i) for what in ('trained', 'validated') for i in (0, 1)}, (
        done.stdout + done.stderr
    )
    for iteration in (0, 1):
        trained, validated = seen['trained', iteration], seen['validated', iteration]
        assert trained[0][1] != trained[1][1]
        assert [values for _, values in validated] == [trained[0][1]] * 2
