"""The order of samples that lie in shards."""

from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
from mmengine.registry import DATA_SAMPLERS

from .epoch_sampler import EpochSampler, epoch_order
from .sample_index import SampleIndex


@DATA_SAMPLERS.register_module()
class ShardSampler(EpochSampler):
    """:class:`EpochSampler` for shards: permute them, then the samples of a few at a time, the window.

    Disks read, and caches hold, only the shards of a window; those of the next one are brought meanwhile.
    An epoch has every sample once, in an order that depends on seed, epoch and window, not on processes.

    Args:
        dataset: Dataset with ``shard_sizes``, the number of samples of each shard.
        window: Shards to shuffle together. Default 16.
        total_batch, shuffle, seed: As of :class:`EpochSampler`.

    Raises:
        ValueError: If the dataset has no shards, or too few images.
    """

    def __init__(
        self,
        dataset: Sized,
        total_batch: int | None = None,
        window: int = 16,
        shuffle: bool = True,
        seed: int | None = None,
    ) -> None:
        super().__init__(dataset, total_batch, shuffle, seed)
        sizes = getattr(dataset, 'shard_sizes', None)
        if sizes is None:
            raise ValueError(
                f'ShardSampler is for shards, such as those of ImageTextShards, and {type(dataset).__name__} '
                'has none: use EpochSampler'
            )
        if window < 1:
            raise ValueError(f'window={window}: expected 1 shard or more')
        self.window, self._starts = window, np.cumsum([0, *sizes])

    def _order(self) -> Iterator[int]:
        number = len(self._starts) - 1
        shards, next_epoch = (
            epoch_order(number, self.shuffle, self.seed, epoch) for epoch in (self.epoch, self.epoch + 1)
        )
        # shards say which epoch they are read in: in a mixture others lie behind them
        queue = [SampleIndex(shard, self.epoch, self.seed) for shard in shards]
        queue += [SampleIndex(shard, self.epoch + 1, self.seed) for shard in next_epoch[: self.window]]
        read_ahead: Any = getattr(self.dataset, 'read_ahead', None)
        for first in range(0, number, self.window):
            end = min(first + self.window, number)
            if read_ahead is not None:
                read_ahead(queue[first:end], queue[end : end + self.window])
            indices = np.concatenate([np.arange(*self._starts[n : n + 2]) for n in shards[first:end]])
            order = epoch_order(len(indices), self.shuffle, self.seed, self.epoch, first)
            yield from indices[order].tolist()
