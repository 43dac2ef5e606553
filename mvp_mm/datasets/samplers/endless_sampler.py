"""The order of samples where iterations are counted, not epochs."""

from collections.abc import Iterator
from itertools import count

from mmengine.dataset import InfiniteSampler
from mmengine.registry import DATA_SAMPLERS

from .epoch_sampler import epoch_order
from .sample_index import SampleIndex


@DATA_SAMPLERS.register_module()
class EndlessSampler(InfiniteSampler):
    """MMEngine's ``InfiniteSampler``, with its arguments, whose indices carry epoch and seed.

    One pass over the dataset after another, each in the order that :class:`EpochSampler` has in that epoch,
    dealt out to the ranks. Datasets derive every random draw of a sample from the index
    (:class:`SampleIndex`), so that neither restarts nor the number of workers change it.
    """

    def _infinite_indices(self) -> Iterator[SampleIndex]:
        for epoch in count():
            for index in epoch_order(self.size, self.shuffle, self.seed, epoch):
                yield SampleIndex(index, epoch, self.seed)
