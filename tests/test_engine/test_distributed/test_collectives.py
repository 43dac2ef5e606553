import time

from torch import distributed
from torchrun_jobs import forked

from mvp_mm.engine.distributed import collectives
from mvp_mm.engine.distributed.collectives import (
    DelayedAllReduce,
    all_gather,
    all_reduce,
    control_group,
    forget_control_group,
)


def test_one_process_knows_at_once():
    agreement = DelayedAllReduce('max')
    assert [agreement.exchange(number) for number in (0, 3)] == [0, 3]
    assert agreement.settle() == 0
    assert all_reduce(5, 'min') == 5 and all_gather('a') == ['a']


def exchanges(told):
    distributed.init_process_group('gloo')
    rank = distributed.get_rank()
    found = {'gloo is the default group': control_group() is distributed.group.WORLD}
    forget_control_group()
    collectives.distributed.get_backend = lambda: 'nccl'  # as if on GPUs
    own = control_group(timeout=60)
    assert own is control_group()
    found['a group of its own'] = own is not distributed.group.WORLD
    found['now'] = all_reduce(3 + rank, 'min'), all_reduce(3 + rank, 'max'), all_gather('ab'[rank])
    agreement = DelayedAllReduce('max')
    found['late'] = [agreement.exchange(number) for number in ((0, 0, 0, 7, 7), (0, 5, 5, 5, 5))[rank]]
    found['settled'] = agreement.settle(), agreement.settle()
    while rank == 1 and not told.exists():  # for ever, if the other's exchange waits for this one's
        time.sleep(0.01)
    agreement.exchange(1)
    if rank == 0:
        told.touch()
    found['last'] = agreement.settle()
    return found


def test_two_processes_know_a_step_later_and_do_not_wait(tmp_path):
    for found in forked(exchanges, tmp_path / 'told'):
        assert found == {
            'gloo is the default group': True,
            'a group of its own': True,
            'now': (3, 4, ['a', 'b']),
            'late': [0, 0, 5, 5, 7],
            'settled': (7, 0),
            'last': 1,
        }
