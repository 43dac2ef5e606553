"""Run by torchrun in two processes: print what they agree on, and whether they wait for one another."""

import sys
import time

import torch
from torch import distributed

from mvp_mm.engine.distributed import collectives
from mvp_mm.engine.distributed.collectives import (
    DelayedAllReduce,
    all_gather,
    all_reduce,
    control_group,
    forget_control_group,
)


def main():
    distributed.init_process_group('gloo')
    rank = distributed.get_rank()
    same = control_group() is distributed.group.WORLD
    forget_control_group()
    collectives.distributed.get_backend = lambda: 'nccl'  # as if on GPUs
    own = control_group(timeout=60)
    assert own is control_group()
    say(f'GROUPS rank={rank} default={same} own={own is not distributed.group.WORLD}')
    lowest, highest = all_reduce(3 + rank, 'min'), all_reduce(3 + rank, 'max')
    say(f'NOW rank={rank} {lowest} {highest} {all_gather("ab"[rank])}')
    agreement = DelayedAllReduce('max')
    numbers = [agreement.exchange(number) for number in ((0, 0, 0, 7, 7), (0, 5, 5, 5, 5))[rank]]
    say(f'LATE rank={rank} {numbers} {agreement.settle()} {agreement.settle()}')
    if rank == 1:
        time.sleep(2)
    begin = time.monotonic()
    agreement.exchange(1)
    waited = time.monotonic() - begin
    say(f'WAITED rank={rank} {waited > 1} {agreement.settle()}')
    forget_control_group()
    del own
    distributed.barrier()
    distributed.destroy_process_group()


def say(line):
    sys.stdout.write(f'{line}\n')
    sys.stdout.flush()


if __name__ == '__main__':
    torch.set_num_threads(1)
    main()
