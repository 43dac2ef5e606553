import torch
from mmengine.logging import print_log

from ..hardware import core_share


def clamp_workers(dataloader: dict) -> None:
    """Limit a loader's workers to the cores of this process, and pin memory only for CUDA, in place."""
    if not torch.cuda.is_available():
        dataloader['pin_memory'] = False
    cores, wanted = core_share(), dataloader.get('num_workers', 0)
    if wanted > cores:
        print_log(f'{cores} loader workers instead of {wanted}: one a core of this process', 'current')
        dataloader['num_workers'] = cores
    if wanted == 0:
        dataloader.pop('persistent_workers', None)  # torch refuses it without workers
    if isinstance(dataloader.get('collate_fn'), dict):
        # inherited from `package::config`; MMEngine would pass it to the function
        dataloader['collate_fn'].pop('_scope_', None)
