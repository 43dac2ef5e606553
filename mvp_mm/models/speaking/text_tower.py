"""The text tower of a CLIP, and the embeddings of names by it."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from mmengine.logging import print_log
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor
from torch.nn import functional as F

from ...text.templates import Templates, filled
from ...weights.locate import cache_dir
from ...whole_file import whole_file
from ..clip.text_encoder import TextEncoder
from .class_embeddings import ClassEmbeddings

BATCH = 256  # texts encoded at a time
Names = Sequence[str | Sequence[str]]  # of each class: a name, several separated by commas, or a list of them


class TextTower:
    """Embed texts in the joint space, and names of classes by prompt templates.

    Embeddings of classes are cached below torch.hub's folder, by weights, settings, names and templates.

    Args:
        encoder: The text tower.
        tokenizer: From texts to token ids ``(N, L)``; see :func:`~mvp_mm.text.tokenize.find_tokenizer`.
        logit_scale: Factor of the cosines, CLIP's inverse temperature; 100 for OpenAI's.
        identity: Tells towers apart: sha256 of the weight file, or None for random weights: no cache.
        name: Of the model, for messages.
        settings: Plain data that the tower was built with, which tells towers apart, too. Default None.
        learns: The encoder belongs to a model in training, and is left as it is. Default False: it is frozen.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        tokenizer: Callable,
        logit_scale: float,
        identity: str | None,
        name: str,
        learns: bool = False,
        settings: Any = None,
    ) -> None:
        self.encoder = encoder if learns else encoder.eval().requires_grad_(False)
        self.tokenizer: Any = tokenizer
        self.logit_scale, self.identity = logit_scale, identity
        self.name, self.settings = name, settings
        #: Templates for names that come without: those of the model's own vocabulary, or OpenAI's 80.
        self.templates: Templates = getattr(tokenizer, 'templates', None) or 'openai'

    def to(self, device: torch.device | str) -> 'TextTower':
        """Move the encoder to a device, and return this tower."""
        self.encoder.to(device)
        return self

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Embed texts: ``(N, D)`` float32, L2-normalised, on the CPU.

        ValueError if a text is longer than the context, or has words that the vocabulary lacks.
        """
        encode: Any = getattr(self.tokenizer, 'encode', None)
        length = len(self.encoder.positional_embedding)
        for text in texts if encode is not None else ():
            if (count := len(encode(text)) + 2) > length:  # it would be cut off silently
                raise ValueError(
                    f'the prompt {text[:60]!r}... has {count} tokens, and the context of {self.name} '
                    f'{length}: shorten it'
                )
        device = self.encoder.positional_embedding.device
        vectors = []
        with torch.autocast(device.type, enabled=False):
            for start in range(0, len(texts), BATCH):
                tokens = self.tokenizer(list(texts[start : start + BATCH])).to(device)
                vectors.append(F.normalize(self.encoder.encode(tokens).float(), dim=-1).cpu())
        return torch.cat(vectors)

    def class_embeddings(
        self, names: Names | ClassEmbeddings, templates: Templates | None = None
    ) -> ClassEmbeddings:
        """Embed classes by their names, as CLIP does (§3.1.4): the normalised mean over the templates.

        Args:
            names: One entry a class: a name, several separated by commas, or a list of them. Or embeddings,
                such as those of learnt prompts, which are returned.
            templates: A name of :data:`~mvp_mm.text.templates.TEMPLATES`, or templates with ``{}`` for the
                name. Default None: the tower's own :attr:`templates`.

        Raises:
            ValueError: If there are no classes, a name is empty or occurs twice, or a prompt is too long.
        """
        if isinstance(names, ClassEmbeddings):
            return names
        classes = require_classes(names)
        templates = self.templates if templates is None else templates
        prompts = [filled(templates, name) for group in classes for name in group]
        found = ClassEmbeddings.of(torch.empty(0), classes)
        path = None
        if self.identity is not None:
            key = hashlib.sha256(json.dumps([self.identity, self.settings, prompts]).encode()).hexdigest()
            path = cache_dir() / 'text' / f'{key}.safetensors'
        if path is not None and path.is_file():
            try:
                return found._replace(vectors=safetensors.load_file(path)['vectors'])
            except (OSError, KeyError, SafetensorError):
                path.unlink(missing_ok=True)  # cut off by a full disk, say
        texts = [prompt for group in prompts for prompt in group]
        vectors = self.embed(texts).split([len(group) for group in prompts])
        found = found._replace(vectors=F.normalize(torch.stack([rows.mean(0) for rows in vectors]), dim=-1))
        if path is not None:
            _keep(found.vectors, path)
        return found


def require_classes(names: Names) -> list[list[str]]:
    """Return the names of each class, or raise ValueError: none, an empty one, one that two classes have."""
    if isinstance(names, str):
        raise ValueError(f'{names!r} is one text: expected a list of names, such as [{names!r}]')
    classes = [
        [name.strip() for name in entry.split(',')] if isinstance(entry, str) else list(entry)
        for entry in names
    ]
    if not classes:
        raise ValueError('there are no classes: expected at least one name')
    if classes == [[name] for name in open_clip.IMAGENET_CLASSNAMES]:
        return classes  # CLIP's figures are of this list, which has two missiles and two sunglasses
    seen: dict[str, int] = {}
    for number, group in enumerate(classes):
        if not group or not all(name.strip() for name in group):
            raise ValueError(f'class {number} has an empty name: expected words, got {group!r}')
        for name in group:
            first = seen.setdefault(name.lower(), number)
            if first != number:
                raise ValueError(f'{name!r} names class {first} and class {number}: name it once')
    return classes


def _keep(vectors: Tensor, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, 'free some space') as temporary:
            temporary.write_bytes(safetensors.save(dict(vectors=vectors.contiguous())))
    except OSError as error:  # a full or read-only disk costs time only
        print_log(f'Text embeddings are not cached: {error}', 'current')
