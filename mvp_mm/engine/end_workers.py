from typing import Any

from mmengine.runner import Runner


def end_workers(runner: Runner) -> None:
    """End the workers that a runner's loaders keep between epochs; another epoch starts new ones.

    Otherwise they hold their memory through what comes next, and the garbage collector waits five seconds for
    each loader: a runner refers to itself, and of all that is collected with it the queues by which workers
    are told to end are closed first.
    """
    loops: Any = (runner._train_loop, runner._val_loop, runner._test_loop)
    for loop in loops:
        for loader in (getattr(loop, 'dataloader', None), *getattr(loop, 'dataloaders', ())):
            iterator = getattr(loader, '_iterator', None)
            if iterator is not None:
                loader._iterator = None
                iterator._shutdown_workers()
