import hashlib
from pathlib import Path

import torch
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ...version import __version__
from ...weights.write import safetensors_bytes
from .safe_checkpoint import atomic_write


def save_teacher(runner: Runner, path: Path) -> str:
    """Save the model's ``teacher_state()`` in float16 as a ``.safetensors`` file; return its sha256.

    The metadata holds config, seed, epochs, last metrics, versions, and ``teacher_facts()`` if there are any.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if not hasattr(model, 'teacher_state'):
        raise ValueError(f'{type(model).__name__} is no teacher to save: use a config of configs/teachers')
    state = {
        name: value.detach().to('cpu', torch.float16 if value.is_floating_point() else None)
        for name, value in model.teacher_state().items()
    }
    about = dict(
        config=Path(runner.cfg.filename or '').name,
        seed=runner.seed,
        epochs=runner.epoch,
        iterations=runner.iter,
        **{
            name.removeprefix('val/'): f'{history.current():.4g}'
            for name, history in runner.message_hub.log_scalars.items()
            if name.startswith('val/') and 'time' not in name
        },
        **getattr(model, 'teacher_facts', dict)(),
        torch=torch.__version__,
        mvp_mm=__version__,
    )
    # not save_file, which makes a file that only its owner can read
    content = safetensors_bytes(state, {key: str(value) for key, value in about.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, verify=False) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()
