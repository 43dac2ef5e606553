"""Keep the batch of a step that could not be made."""

from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank, is_main_process
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from mmengine.utils import apply_to

from ...wording import listed
from ..checkpoint.safe_checkpoint import atomic_write, make_plain

LISTED = 8


def sample_names(batch: Any) -> list[str]:
    """Return the path, or else the index, of each of OpenMMLab's samples in a batch."""
    samples = batch.get('data_samples') if isinstance(batch, dict) else None
    known = [sample for sample in samples or [] if isinstance(sample, BaseDataElement)]
    return [str(sample.get('img_path', sample.get('sample_idx', 'without a name'))) for sample in known]


def keep_bad_batch(runner: Runner, batch: Any, names: list[str], reason: str) -> str:
    """Save a step's last batch, its samples' names and the weights; return a sentence for the error."""
    path = Path(runner.work_dir) / f'bad_batch_iter_{runner.iter + 1}_rank_{get_rank()}.pth'
    told = f'The samples of the last step: {listed(names, LISTED)}.' if names else ''
    content = dict(iteration=runner.iter + 1, samples=names, reason=reason, batch=_as_data(batch))
    if is_main_process():
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        content['state_dict'] = _as_data(model.state_dict())
    make_plain(content)
    try:
        with atomic_write(path) as temporary:
            torch.save(content, temporary)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        return f'{told} The last batch could not be saved ({error}).'
    return f'{told} The last batch, and the weights, are in {path}.'


def _as_data(value: Any) -> Any:
    """Convert OpenMMLab's samples to dicts, and move tensors to the CPU for machines without a GPU."""
    value = apply_to(value, lambda x: isinstance(x, BaseDataElement), lambda x: _as_data(x.to_dict()))
    return apply_to(value, torch.is_tensor, lambda x: x.cpu())
