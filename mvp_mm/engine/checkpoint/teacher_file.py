"""Write a trained teacher as a small weight file that says how it was made."""

import hashlib
import os
from pathlib import Path

import torch
from mmengine.runner import Runner
from safetensors.torch import save

from ...version import __version__


def save_teacher(runner: Runner, path: Path) -> str:
    """Write the weights of a trained teacher.

    float16, because a frozen teacher needs no more; the file's metadata names config, seed, epochs, last
    metrics and versions, and what the model's ``teacher_facts()`` gives, if it has that.

    Args:
        runner: Of a config whose model has ``teacher_state()``, such as :class:`CLIPTeacher`.
        path: ``.safetensors`` file to write; written under another name first.

    Returns:
        The file's sha256.

    Raises:
        ValueError: If the model is no teacher.
    """
    model = runner.model.module if hasattr(runner.model, 'module') else runner.model
    if not hasattr(model, 'teacher_state'):
        raise ValueError(
            f'{type(model).__name__} is no teacher to save: use a config of configs/teachers, and '
            'tools/train.py for all others'
        )
    state = {
        name: value.detach().to('cpu', torch.float16 if value.is_floating_point() else None).contiguous()
        for name, value in model.teacher_state().items()
    }
    scalars = runner.message_hub.log_scalars
    metrics = {name: buffer.current() for name, buffer in scalars.items() if name.startswith('val/')}
    about = dict(
        config=Path(runner.cfg.filename or '').name,
        seed=runner.seed,
        epochs=runner.epoch,
        iterations=runner.iter,
        **{
            name.removeprefix('val/'): f'{value:.4g}' for name, value in metrics.items() if 'time' not in name
        },
        **getattr(model, 'teacher_facts', dict)(),
        torch=torch.__version__,
        mvp_mm=__version__,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}')
    # not save_file, which makes a file that only its owner can read
    temporary.write_bytes(save(state, metadata={key: str(value) for key, value in about.items()}))
    os.replace(temporary, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()
