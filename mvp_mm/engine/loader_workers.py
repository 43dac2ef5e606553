from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader

from ..hardware import core_share


def clamp_workers(dataloader: dict) -> None:
    """Limit a loader's workers to the cores of this process, and pin memory only for CUDA, in place."""
    if not torch.cuda.is_available():
        dataloader['pin_memory'] = False
    cores, wanted = core_share(), dataloader.get('num_workers', 0)
    if wanted > cores:
        print_log(f'{cores} loader workers instead of {wanted}: one a core of this process', 'current')
        dataloader['num_workers'] = cores
    if wanted == 0:
        dataloader.pop('persistent_workers', None)  # torch refuses it without workers
    if isinstance(dataloader.get('collate_fn'), dict):
        # inherited from `package::config`; MMEngine would pass it to the function
        dataloader['collate_fn'].pop('_scope_', None)


def loaders_of(loop: Any) -> list[DataLoader]:
    """Return the loaders of a loop, of which an EvaluatorLoop has several."""
    return getattr(loop, 'dataloaders', [loop.dataloader])


def end_workers(runner: Runner) -> None:
    """End the workers that a runner's loaders keep between epochs; another epoch starts new ones.

    Otherwise they hold their memory through what comes next, and the garbage collector waits five seconds for
    each loader: in the runner's reference cycle, the queues that tell workers to end are closed first.
    """
    loops = (runner._train_loop, runner._val_loop, runner._test_loop)
    for loader in (loader for loop in loops if isinstance(loop, BaseLoop) for loader in loaders_of(loop)):
        iterator = getattr(loader, '_iterator', None)  # of a DataLoader that keeps its workers
        if iterator is not None:
            loader._iterator = None
            iterator._shutdown_workers()
