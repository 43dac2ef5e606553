"""The config that shards its student by FSDP trains as DDP does."""

import re
import sys
from pathlib import Path

from torchrun_jobs import free_port, run

ROOT = Path(__file__).parents[2]


def test_two_processes(tmp_path):
    """Losses, gradient norms, groups and checkpoint, with weight decay, clipping and accumulation."""
    script = ROOT / 'tests/test_engine/sharded_run.py'
    command = [sys.executable, ROOT / 'tools/torchrun.py', '--nproc-per-node=2']
    status, output, _ = run([*command, f'--master-port={free_port()}', script, tmp_path])
    assert status == 0, output
    runs = re.findall(r'RUN rank=\d (\w+) iterations=8 groups=(.*)', output)
    kinds = ['MMDistributedDataParallel', 'MMFullyShardedDataParallel']
    assert sorted(kind for kind, _ in runs) == sorted(2 * kinds)
    assert len({groups for _, groups in runs}) == 1
    found = re.findall(r'RESULT rank=(\d) apart=(\S+) moved=(\S+)', output)
    assert {rank for rank, *_ in found} == {'0', '1'}
    assert all(float(apart) < 1e-5 and float(moved) > 0.1 for _, apart, moved in found), found
    ((same, furthest),) = re.findall(r'SAVED same_names=(\w+) furthest=(\S+)', output)
    assert same == 'True' and float(furthest) < 1e-4
