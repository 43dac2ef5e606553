"""The training that is killed, over shards that a slow network brings to a cache too small for all."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config

from mvp_mm.datasets import write_shards

from .faulty_files import FaultyFileSystem
from .kills import Baseline

SECONDS = 0.05  # of a transfer


def over_shards(folder: Path, per_shard: int = 9) -> Callable[[Config], None]:
    """Change a config of :func:`~faults.tiny_run.tiny_config` for :func:`~faults.kills.run_baseline`.

    Args:
        folder: For shards of the config's images, and the cache.
        per_shard: Images a shard; the cache holds three.

    Returns:
        What changes it.
    """

    def adapt(cfg: Config) -> None:
        images = cfg.train_dataloader.dataset.data_root
        paths = write_shards(images, folder / 'shards', per_shard=per_shard, progress=False)
        FaultyFileSystem.seconds = SECONDS
        cfg.train_dataloader.dataset.update(
            type='ImageTextShards',
            data_root=f'faulty://{(folder / "shards").resolve()}/*.tar',
            cache_dir=str(folder / 'cache'),
            cache_bytes=3 * max(path.stat().st_size for path in paths) + 1,
        )
        cfg.train_dataloader.sampler.update(type='ShardSampler', window=2)
        cfg.train_dataloader.num_workers = 2

    return adapt


def each_once(whole: Baseline, epochs: int, samples: int) -> bool:
    """Whether a run saw each of so many samples once an epoch, all processes together."""
    batches = [names for together in zip(*whole.samples(whole.work_dir), strict=True) for names in together]
    seen, part = [name for names in batches for name in names], len(batches) // epochs
    counts = [
        Counter(name for names in batches[part * epoch : part * (epoch + 1)] for name in names)
        for epoch in range(epochs)
    ]
    return len(seen) == epochs * samples and all(
        len(count) == samples and set(count.values()) == {1} for count in counts
    )
