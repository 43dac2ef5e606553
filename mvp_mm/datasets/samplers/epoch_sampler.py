"""The order of samples in an epoch, whatever the number of processes."""

from collections.abc import Iterable, Iterator, Sized
from itertools import islice

import numpy as np
import torch
from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS

from .sample_index import SampleIndex


@DATA_SAMPLERS.register_module()
class EpochSampler(DefaultSampler):
    """Shuffle by (seed, epoch), drop the last partial *total* batch, deal the rest out to the ranks.

    The k-th total batch of an epoch holds the same images however many processes, images a process and
    accumulation steps it is made of. Indices carry epoch and seed (:class:`SampleIndex`), from which
    datasets derive every random draw of a sample.

    Args:
        dataset: Dataset to sample from.
        total_batch: Images an optimiser step, of which an epoch has whole multiples unless the dataset is
            smaller (BEiT's ``drop_last``). Default None: multiples of the number of processes.
        shuffle: Default True.
        seed: Default None: drawn, and shared by all processes.

    Raises:
        ValueError: If there are fewer images than processes.
    """

    def __init__(
        self, dataset: Sized, total_batch: int | None = None, shuffle: bool = True, seed: int | None = None
    ) -> None:
        super().__init__(dataset, shuffle, seed, round_up=False)
        self.size = usable = len(dataset)
        if total_batch is not None and self.size >= total_batch:
            usable -= self.size % total_batch
        self.num_samples = usable // self.world_size
        if self.num_samples == 0:
            raise ValueError(f'{self.size} images cannot be dealt out to {self.world_size} processes')

    def __iter__(self) -> Iterator[SampleIndex]:
        stop = self.num_samples * self.world_size
        for index in islice(self._order(), self.rank, stop, self.world_size):
            yield SampleIndex(index, self.epoch, self.seed)

    def _order(self) -> Iterable[int]:
        """All processes' indices of this epoch."""
        return epoch_order(self.size, self.shuffle, self.seed, self.epoch)


def epoch_order(size: int, shuffle: bool, seed: int, epoch: int, *part: int) -> list[int]:
    """Return each index below ``size`` once, in the order of an epoch: shuffled by (seed, epoch) if asked.

    Parts of an epoch, told apart by further numbers, have orders of their own.
    """
    if not shuffle:
        return list(range(size))
    entropy = np.random.SeedSequence((seed, epoch, *part)).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(entropy >> np.uint64(1)))
    return torch.randperm(size, generator=generator).tolist()
