from typing import Any

from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader


def loaders_of(loop: Any) -> list[DataLoader]:
    """Return the loaders of a loop, of which an EvaluatorLoop has several."""
    return getattr(loop, 'dataloaders', [loop.dataloader])


def end_workers(runner: Runner) -> None:
    """End the workers that a runner's loaders keep between epochs; another epoch starts new ones.

    Otherwise they hold their memory through what comes next, and the garbage collector waits five seconds for
    each loader: a runner refers to itself, and of all that is collected with it the queues by which workers
    are told to end are closed first.
    """
    loops = (runner._train_loop, runner._val_loop, runner._test_loop)
    for loader in (loader for loop in loops if isinstance(loop, BaseLoop) for loader in loaders_of(loop)):
        iterator = getattr(loader, '_iterator', None)  # of a DataLoader that keeps its workers
        if iterator is not None:
            loader._iterator = None
            iterator._shutdown_workers()
