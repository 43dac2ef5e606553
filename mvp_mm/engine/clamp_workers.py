"""A loader that fits the machine."""

import torch
from mmengine.logging import print_log

from ..hardware import core_share


def fit_loader(dataloader: dict) -> None:
    """Change what this machine does not have: no more workers than cores, and no pinned memory for a CPU.

    Args:
        dataloader: Config of a loader.
    """
    if not torch.cuda.is_available():
        dataloader['pin_memory'] = False  # nothing to pin for
    cores = core_share()
    wanted = dataloader.get('num_workers', 0)
    if wanted > cores:
        print_log(f'{cores} loader workers instead of {wanted}: one a core of this process', 'current')
        dataloader['num_workers'] = cores
    if wanted == 0:
        dataloader.pop('persistent_workers', None)  # torch refuses what has no workers to keep
    if isinstance(dataloader.get('collate_fn'), dict):
        # Left by inheritance from `package::config`; MMEngine would pass it to the function.
        dataloader['collate_fn'].pop('_scope_', None)
