"""Jobs of several processes on this machine, without a GPU."""

import multiprocessing
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

import torch
from faults.kills import free_port

__all__ = ['forked', 'free_port', 'run']
ROOT = Path(__file__).parents[2]


def run(command, **environment):
    """Run to the end: status, output, seconds."""
    environment = {
        **os.environ,
        'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '',
        **environment,
    }
    begin = time.monotonic()
    done = subprocess.run(
        [str(part) for part in command], env=environment, capture_output=True, text=True, timeout=500
    )
    return done.returncode, done.stdout + done.stderr, time.monotonic() - begin


def forked(function, *arguments, processes=2):
    """Call a function in the processes of a job, forked from this one: the results by rank.

    They have torchrun's environment, but import nothing anew, which takes most of the time of its jobs.
    """
    context = multiprocessing.get_context('fork')
    port = str(free_port())
    started = []
    for rank in range(processes):
        here, there = context.Pipe(duplex=False)
        job = (there, dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes), MASTER_PORT=port))
        process = context.Process(target=_call, args=(*job, function, arguments))
        process.start()
        there.close()
        started.append((process, here))
    results = []
    try:
        for process, here in started:
            assert here.poll(300), f'{process.name} does not answer'
            failure, result = here.recv()
            assert failure is None, failure
            results.append(result)
            process.join(60)
    finally:
        for process, _ in started:
            process.kill()
    return results


def _call(pipe, environment, function, arguments):
    os.environ.update(environment, MASTER_ADDR='127.0.0.1')
    torch.set_num_threads(1)
    try:
        pipe.send((None, function(*arguments)))
    except BaseException:
        pipe.send((traceback.format_exc(), None))
