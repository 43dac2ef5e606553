from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

EXACT_LOOPS = {EpochBasedTrainLoop: 'ExactEpochLoop', IterBasedTrainLoop: 'ExactIterLoop'}


def exact_loop(loop: dict) -> dict:
    """Return a loop's config with MMEngine's two loops replaced by their exact counterparts."""
    if ('type' in loop) == ('by_epoch' in loop):
        return loop  # MMEngine refuses it
    loop = dict(loop)
    if 'by_epoch' in loop:
        loop['type'] = EpochBasedTrainLoop if loop.pop('by_epoch') else IterBasedTrainLoop
    kind = LOOPS.get(loop['type']) if isinstance(loop['type'], str) else loop['type']
    loop['type'] = EXACT_LOOPS.get(kind, loop['type'])
    return loop
