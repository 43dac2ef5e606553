"""Several sources as one, mixed by weight."""

from collections.abc import Callable, Sequence

import numpy as np
from mmengine.logging import print_log
from mmpretrain.registry import DATASETS

from ..samplers.epoch_sampler import epoch_order
from ..samplers.sample_index import SampleIndex
from .sample_source import SampleSource


@DATASETS.register_module()
class SourceMixture(SampleSource):
    """Samples of several sources: of each, in every epoch, the share that its weight says.

    A source is gone through from epoch to epoch: each of its samples is seen once before any is seen again,
    in an order drawn by seed and pass, shard by shard where it has shards. Any stretch of the indices holds
    the sources in their shares.

    Args:
        sources: Configs of sources. Those without a ``pipeline`` get ``pipeline``.
        weights: Of the sources, positive. Default None: by their sizes.
        length: Samples an epoch. Default None: as many as all sources have.
        pipeline, fixed_draws: As of :class:`.SampleSource`.

    Raises:
        ValueError: If the weights do not fit, or a source's share is less than one sample.
    """

    def __init__(
        self,
        sources: Sequence[dict],
        weights: Sequence[float] | None = None,
        length: int | None = None,
        pipeline: Sequence[dict | Callable] = (),
        fixed_draws: bool = False,
    ) -> None:
        super().__init__(fixed_draws=fixed_draws)
        default = dict(pipeline=pipeline, **(dict(fixed_draws=True) if fixed_draws else {}))
        self.sources = [DATASETS.build({**default, **source}) for source in sources]
        sizes = [len(source) for source in self.sources]
        given = sizes if weights is None else weights
        if not sizes or len(given) != len(sizes) or min(given) <= 0:
            raise ValueError(f'weights={weights}: expected a number above 0 for each of {len(sizes)} sources')
        self.length = sum(sizes) if length is None else length
        ends = np.round(np.cumsum(np.array(given) / sum(given)) * self.length).astype(np.int64)
        self._counts = np.diff(ends, prepend=0)
        if self._counts.min() < 1:
            raise ValueError(
                f'the {self.length} samples of an epoch have none of source {int(self._counts.argmin())}, of '
                f'weights {list(given)}: raise length'
            )
        # sorted by their places, if those of each source are spread evenly
        places = np.concatenate([(np.arange(count) + 0.5) / count for count in self._counts])
        self._order = np.argsort(places, kind='stable')
        self._starts = ends - self._counts
        parts = [getattr(source, 'shard_sizes', None) or np.ones(len(source), int) for source in self.sources]
        self._parts = [np.cumsum([0, *sizes]) for sizes in parts]
        self._passes: dict[tuple[int, int, int], np.ndarray] = {}
        listed = [f'{count:,} of {size:,}' for count, size in zip(self._counts, sizes, strict=True)]
        print_log(f'SourceMixture: {self.length:,} samples an epoch, {", ".join(listed)}', 'current')

    def __len__(self) -> int:
        return self.length

    @property
    def shard_sizes(self) -> list[int] | None:
        """Stretches of the indices that :class:`ShardSampler` may shuffle; None if no source has shards."""
        shares = [
            len(source) / len(source.shard_sizes) / count
            for source, count in zip(self.sources, self._counts, strict=True)
            if getattr(source, 'shard_sizes', None)
        ]
        if not shares:
            return None
        number = max(1, int(1 / max(shares)))  # at least a shard of each source is in a stretch
        return np.diff(np.round(np.linspace(0, self.length, number + 1)).astype(int)).tolist()

    def read_ahead(self, now: Sequence[SampleIndex], following: Sequence[SampleIndex]) -> None:
        """Begin to bring what the sources need for some stretches of the indices, and then for others."""
        for number, source in enumerate(self.sources):
            if (read_ahead := getattr(source, 'read_ahead', None)) is not None:
                read_ahead(self._shards_of(number, now), self._shards_of(number, following))

    def _shards_of(self, source: int, stretches: Sequence[SampleIndex]) -> list[SampleIndex]:
        """Return the shards of a source that stretches of the indices are in, in their order."""
        bounds, size = np.cumsum([0, *(self.shard_sizes or ())]), len(self.sources[source])
        start, found = int(self._starts[source]), list[SampleIndex]()
        for stretch in stretches:
            places = self._order[bounds[stretch] : bounds[stretch + 1]] - start
            places = places[(places >= 0) & (places < self._counts[source])]
            passes, places = np.divmod(places + stretch.epoch * self._counts[source], size)
            for passed in np.unique(passes).tolist():
                parts, part_ends = self._pass(source, stretch.seed, passed)
                at = np.unique(np.searchsorted(part_ends, places[passes == passed], 'right'))
                found += [self._index(source, part, stretch.seed, passed) for part in parts[at].tolist()]
        return found

    def find(self, index: int) -> tuple[int, SampleIndex | int]:
        """Return the source of an index, and the index there.

        A plain index is one of the first epoch, and draws as plain indices do.
        """
        place = int(self._order[int(index)])
        source = int(np.searchsorted(self._starts, place, 'right')) - 1
        epoch, seed = (index.epoch, index.seed) if isinstance(index, SampleIndex) else (0, 0)
        size = len(self.sources[source])
        passed, place = divmod(place - int(self._starts[source]) + epoch * int(self._counts[source]), size)
        parts, ends = self._pass(source, seed, passed)
        at = int(np.searchsorted(ends, place, 'right'))
        found = int(self._parts[source][parts[at] + 1]) - int(ends[at]) + place
        return source, self._index(source, found, seed, passed) if isinstance(index, SampleIndex) else found

    def _index(self, source: int, number: int, seed: int, passed: int) -> SampleIndex:
        """Return a source's index: each visit of a sample draws anew, in each source its own."""
        return SampleIndex(number, passed * len(self.sources) + source, seed)

    def prepare_data(self, idx: int) -> dict:
        source, index = self.find(idx)
        return self.sources[source].prepare_data(index)

    def get_data_info(self, idx: int) -> dict:
        source, index = self.find(idx)
        return self.sources[source].get_data_info(index)

    def _pass(self, source: int, seed: int, passed: int) -> np.ndarray:
        """Return the shards of a source, or else its samples, in the order of a pass, and where each ends."""
        key, starts = (source, seed, passed), self._parts[source]
        if key not in self._passes:
            for old in [old for old in self._passes if old[0] == source][:-1]:
                del self._passes[old]
            order = np.array(epoch_order(len(starts) - 1, True, seed, passed, source), np.int64)
            self._passes[key] = np.stack([order, np.cumsum(np.diff(starts)[order])])
        return self._passes[key]
