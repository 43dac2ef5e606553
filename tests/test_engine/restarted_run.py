"""Run by torchrun in two processes: one is killed, the next attempt resumes, then torchrun gets SIGTERM."""

import atexit
import os
import signal
import sys
from pathlib import Path

import torch
from exact_runs import Watch, build, finish, stopped
from mmengine.hooks import Hook


class Kill(Hook):
    """SIGKILL of this process, in the first attempt."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        first = os.environ['TORCHELASTIC_RESTART_COUNT'] == '0'
        if first and torch.distributed.get_rank() == 1 and runner.iter + 1 == 7:
            os.kill(os.getpid(), signal.SIGKILL)


def count_threads():
    """Gloo's that are left, where the system lists threads."""
    names = [path.read_text() for path in Path('/proc/self/task').glob('*/comm')]
    left = sum('gloo' in name for name in names)
    print(f'LEFT rank={os.environ["LOCAL_RANK"]} threads={left}', flush=True)


def main():
    if os.environ['TORCHELASTIC_RESTART_COUNT'] == '1':
        atexit.register(count_threads)  # first, so it is called last
    folder = Path(sys.argv[1])
    more = dict(launcher='pytorch', size=48, saved_by_epoch=False, interval=4)
    watch = Watch()
    rest, state_after = finish(build(folder / 'cut', watch, resume=True, hooks=[Kill()], **more), watch)
    watch = Watch()
    losses, state = finish(build(folder / 'whole', watch, **more), watch)
    rank = torch.distributed.get_rank()
    names = [name for name in state if rank == 0 or 'running' not in name]  # see exact_runs
    same = all(torch.equal(state[name], state_after[name]) for name in names)
    print(f'RESULT rank={rank} number={len(rest)} losses={rest == losses[4:]} weights={same}', flush=True)
    ended = stopped(folder / 'stopped', 3, os.getppid() if rank == 1 else None, **more)
    print(f'STOPPED rank={rank} {ended}', flush=True)


if __name__ == '__main__':
    main()
