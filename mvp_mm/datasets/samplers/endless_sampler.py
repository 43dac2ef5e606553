"""The order of samples where training counts iterations, not epochs."""

from collections.abc import Iterator
from itertools import count

from mmengine.dataset import InfiniteSampler
from mmengine.registry import DATA_SAMPLERS

from .epoch_sampler import epoch_order
from .sample_index import SampleIndex


@DATA_SAMPLERS.register_module()
class EndlessSampler(InfiniteSampler):
    """MMEngine's ``InfiniteSampler``, with its arguments, whose indices carry epoch and seed.

    Each pass over the dataset has the order of that epoch in :class:`EpochSampler`, dealt out to the ranks.
    """

    def _infinite_indices(self) -> Iterator[SampleIndex]:
        for epoch in count():
            for index in epoch_order(self.size, self.shuffle, self.seed, epoch):
                yield SampleIndex(index, epoch, self.seed)
