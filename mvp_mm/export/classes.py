"""The embeddings of classes in a file of numpy's, for programs without this package."""

from pathlib import Path

import numpy as np

from ..models.speaking.speaks import Speaks
from ..models.speaking.text_tower import require_classes
from ..text.class_names import names_in


def classes_file(out: Path) -> Path:
    """Name the file beside an export: ``student.classes.npz`` beside ``student.onnx``."""
    return out.with_suffix('.classes.npz')


def write_classes(model: Speaks, prompts: str, path: Path) -> None:
    """Write unit vectors ``vectors`` (N, D), their classes ``owner`` (N,), ``names`` (K,), ``logit_scale``.

    ``prompts`` is as for :func:`.names_in`. Several of the N vectors may be names of one of the K classes,
    whose score is the largest of theirs.
    """
    tower = model.text_tower
    found = tower.class_embeddings(require_classes(names_in(prompts)))
    with path.open('wb') as file:
        np.savez(
            file,
            vectors=found.vectors.numpy(),
            owner=found.owner.numpy(),
            names=np.array(found.names),
            logit_scale=np.float32(tower.logit_scale),
        )
