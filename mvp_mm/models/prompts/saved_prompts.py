"""Learnt prompts as a file of kilobytes, and read in words."""

import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.logging import print_log
from mmpretrain.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from ...version import __version__
from ...weights.locate import local_path
from ...weights.read import read_metadata, read_tensors
from ...weights.write import safetensors_bytes
from ...whole_file import whole_file
from ..speaking.class_embeddings import ClassEmbeddings
from ..speaking.text_tower import Names, TextTower, require_classes
from .coop import CoOp

Words = list[list[tuple[str, float]]]  # for each vector, the nearest words and their distances


class SavedPrompts(NamedTuple):
    """A file of :func:`save_prompts`."""

    kind: str  # registered class of the learner
    settings: dict[str, Any]  # its arguments
    tensors: dict[str, Tensor]
    identity: str | None  # of the text tower
    words: Words
    source: str

    def learner(self, text_tower: TextTower) -> CoOp:
        """Build the learner on its text tower; ValueError if the prompts were learnt with another."""
        if self.identity != text_tower.identity:
            raise ValueError(
                f'{self.source} was learnt with another text tower than that of {text_tower.name} (sha256 '
                f'{str(self.identity)[:12]} and {str(text_tower.identity)[:12]}): give the model of then'
            )
        config = dict(self.settings, type=self.kind, _scope_='mmpretrain')
        learner: CoOp = MODELS.build(config, default_args=dict(text_tower=text_tower))
        learner.load_state_dict(self.tensors)
        return learner.to(learner.context.device).eval().requires_grad_(False)  # the tower's

    @torch.no_grad()
    def class_embeddings(
        self, text_tower: TextTower, names: Names, image_features: Tensor | None = None
    ) -> ClassEmbeddings:
        """Embed classes by the learnt prompts, for wherever names or their embeddings are asked for.

        Args:
            text_tower: The one that they were learnt with.
            names: See :meth:`TextTower.class_embeddings`; others than in training, unless class-specific.
            image_features: Embedding of one image, ``(D,)``, which CoCoOp needs. Default None.

        Raises:
            ValueError: If the tower or the names do not do, or CoCoOp gets no image.
        """
        classes, learner = require_classes(names), self.learner(text_tower)
        if image_features is not None:
            image_features = F.normalize(image_features.float(), dim=-1)[None].to(learner.context.device)
        vectors = learner([name for group in classes for name in group], image_features)
        return ClassEmbeddings.of(vectors if vectors.ndim == 2 else vectors[0], classes)


def save_prompts(learner: CoOp, path: str | Path) -> Words:
    """Save a learner as safetensors, with settings, nearest words and the tower's identity; return the words.

    The file holds no tensor of the encoders.
    """
    tower = learner.text_tower
    if tower.identity is None:
        message = f'{tower.name} has random weights: the prompts in {path} are of no use'
        print_log(message, 'current', level=logging.WARNING)
    words = nearest_words(learner.context, tower)
    about: dict[str, Any] = dict(kind=type(learner).__name__, settings=learner.settings)
    about |= dict(identity=tower.identity, model=tower.name, words=words, mvp_mm=__version__)
    tensors = {name: value.detach().cpu() for name, value in learner.state_dict().items()}
    metadata = {key: json.dumps(value) for key, value in about.items()}
    with whole_file(Path(path), 'free some space') as temporary:
        temporary.write_bytes(safetensors_bytes(tensors, metadata))
    return words


def load_prompts(path: str | Path) -> SavedPrompts:
    """Read a file of :func:`save_prompts`: its path, address, or the name of a model of the zoo.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is another file.
    """
    path = local_path(path)
    tensors = dict(read_tensors(path))
    about = {key: value for key, value in read_metadata(path).items() if key in SavedPrompts._fields}
    if not {'kind', 'settings', 'identity', 'words'} <= set(about):
        raise ValueError(
            f'{path} holds no learnt prompts: expected a file of tools/train.py configs/prompts/...'
        )
    content = {key: json.loads(text) for key, text in about.items()}
    return SavedPrompts(**content, tensors=tensors, source=str(path))


@torch.no_grad()
def nearest_words(context: Tensor, text_tower: TextTower, count: int = 3) -> Words:
    """Find the tokens nearest to context vectors ``(..., C)`` by Euclidean distance (CoOp §4.3)."""
    table = text_tower.encoder.token_embedding.weight
    distances = torch.cdist(context.detach().to(table.device).flatten(0, -2), table)
    nearest = distances.topk(min(count, len(table)), largest=False)
    decode = text_tower.tokenizer.decode
    return [
        [(decode([token]).strip(), round(value, 4)) for token, value in zip(tokens, values, strict=True)]
        for tokens, values in zip(nearest.indices.tolist(), nearest.values.tolist(), strict=True)
    ]
