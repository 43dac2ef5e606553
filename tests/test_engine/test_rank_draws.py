"""Each process draws its own drop paths and mixtures, from weights that are the same."""

import re
import sys
from pathlib import Path

from torchrun_jobs import free_port, run

from mvp_mm.engine import mvp_runner

SCRIPT = Path(__file__).with_name('rank_draws.py')


def drawn(*launcher):
    status, output, _ = run([sys.executable, *launcher, SCRIPT])
    assert status == 0, output
    found = re.findall(r'DRAWN rank=(\d) (\S+) (\[.*\])', output)
    return {int(rank): (weights, eval(draws)) for rank, weights, draws in found}


def test_two_processes():
    alone = drawn()
    both = drawn('-m', 'torch.distributed.run', '--nproc-per-node=2', f'--master-port={free_port()}')
    assert alone[0] == both[0]
    assert both[0][0] == both[1][0]  # the weights
    assert all(mine != other for mine, other in zip(both[0][1], both[1][1], strict=True))


def test_one_process_draws_as_before(tmp_path, monkeypatch):
    """Nothing is seeded anew, so that results of one process are what they were."""
    from exact_runs import Watch, build

    runner = build(tmp_path, Watch())
    monkeypatch.delattr(mvp_runner, 'set_random_seed')
    runner._init_model_weights()
