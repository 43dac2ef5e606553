"""Train with exact restarts where a config names one of MMEngine's loops."""

from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

EXACT_LOOPS = {EpochBasedTrainLoop: 'ExactEpochLoop', IterBasedTrainLoop: 'ExactIterLoop'}


def exact_loop(loop: dict) -> dict:
    """Return a loop's config with MMEngine's two loops replaced by their exact counterparts.

    Raises:
        ValueError: If there is nothing to train.
    """
    for key in ('max_epochs', 'max_iters'):
        length = loop.get(key)
        if length is not None and not (isinstance(length, int) and length > 0):
            raise ValueError(f'train_cfg.{key}={length} is no length of a training: give 1 or more')
    if ('type' in loop) == ('by_epoch' in loop):
        return loop  # MMEngine refuses it
    loop = dict(loop)
    if 'by_epoch' in loop:
        loop['type'] = EpochBasedTrainLoop if loop.pop('by_epoch') else IterBasedTrainLoop
    kind = LOOPS.get(loop['type']) if isinstance(loop['type'], str) else loop['type']
    loop['type'] = EXACT_LOOPS.get(kind, loop['type'])
    return loop
