"""What sources of images with texts share: which texts a sample has, and which of them it shows."""

import random
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ...text.decode import decode_text
from ...text.templates import TEMPLATES, Templates, filled
from ...wording import counted
from .sample_source import SampleSource


class CaptionedSource(SampleSource):
    """Base class of sources of images with texts: one text of a sample is drawn each time it is read.

    Args:
        templates: Take each text as the names of a class, with commas between, and put one of them into one
            of these sentences: a name of :data:`~mvp_mm.text.templates.TEMPLATES` or a list. Default None:
            texts are captions.
        classes: Names of the classes, or a text file with one a line, of which what follows a tab counts.
            Samples with a label and no text take their class's name. Default None.
        require_caption: Leave out samples without a text. Default None: if a step of ``pipeline`` needs
            ``caption``.
        pipeline: Transforms. ``caption`` is there if the sample has a text, ``gt_label`` if it has a label.
        fixed_draws, max_refetch: As of :class:`.SampleSource`; captions are draws as well.
    """

    _without = _empty = 0  # images without a caption, and empty captions, as subclasses count them

    def __init__(
        self,
        templates: Templates | None = None,
        classes: str | Sequence[str] | None = None,
        require_caption: bool | None = None,
        pipeline: Sequence[dict | Callable] = (),
        fixed_draws: bool = False,
        max_refetch: int = 10,
    ) -> None:
        self.classes = read_classes(classes) if isinstance(classes, str) else classes
        if templates is not None:
            filled(templates, 'class')  # refuses what are none
        self.templates = TEMPLATES[templates] if isinstance(templates, str) else templates
        metainfo = None if self.classes is None else dict(classes=tuple(self.classes))
        super().__init__(pipeline, metainfo, fixed_draws, max_refetch)
        steps = self.pipeline.transforms
        needed = any('caption' in getattr(step, 'needs', ()) for step in steps)
        self.require_caption = needed if require_caption is None else require_caption

    def record(self, index: int) -> tuple[str, bytes | str, list[str], int | None]:
        """Return the key of a sample, its image (bytes or path), all its texts, and its label."""
        raise NotImplementedError(f'{type(self).__name__} must define record(index)')

    def sample(self, index: int) -> tuple[str, bytes | str, dict[str, Any]]:
        key, content, texts, label = self.record(index)
        fields: dict[str, Any] = {} if label is None else dict(gt_label=label)
        if not texts and label is not None and (names := self.classes) is not None:
            if not 0 <= label < len(names):
                raise ValueError(f'a sample has the label {label}, but `classes` has {len(names)} names')
            texts = [names[label]]
        if texts:
            caption = _one_of(texts)
            if self.templates is not None:
                synonyms = [name.strip() for name in caption.split(',') if name.strip()]
                caption = filled([_one_of(self.templates)], _one_of(synonyms or [caption]))[0]
            fields['caption'] = caption
        return key, content, fields

    def captions_note(self) -> str:
        """Say how many images are used, and how many captions are missing."""
        notes = [counted(len(self), 'image')]
        if self._empty:
            notes.append(f'{self._empty:,} empty captions passed over')
        if self._without:
            notes.append(f'{self._without:,} without a caption{" left out" if self.require_caption else ""}')
        return ', '.join(notes)


def _one_of(choices: Sequence[Any]) -> Any:
    """Draw from Python's generator, which is seeded by (seed, epoch, index); one choice draws nothing."""
    return choices[0] if len(choices) == 1 else random.choice(choices)


def lines_of(text: str, split_lines: bool = True) -> list[str]:
    """Return the captions in a text file: its non-empty lines, or all of it in one line."""
    parts = re.split(r'[\r\n]+', text) if '\n' in text or '\r' in text else [text]
    lines = [' '.join(line.split()) for line in parts]
    lines = [line for line in lines if line]
    return lines if split_lines or not lines else [' '.join(lines)]


def captions_in(value: Any) -> list[str]:
    """Return the captions in a JSON value, text or a list of texts; ValueError if it is neither.

    None in a list is an empty one. Halves of surrogate pairs, which a cut emoji leaves, become ``?``.
    """
    values: Iterable = value if isinstance(value, list | tuple) else [] if value is None else [value]
    found = []
    for text in values:
        if not isinstance(text, str | None):
            raise ValueError(f'{str(text)[:40]!r} is no caption: expected text, or a list of texts')
        found += [' '.join((text or '').encode('utf-8', 'replace').decode().split())]
    return found


def read_classes(path: str) -> list[str]:
    """Read names of classes from a text file, one a line; after ``n01443537`` and a tab, or alone."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f'there is no file {path}, which `classes` names: give one, or a list')
    lines = re.split(r'[\r\n]+', decode_text(file.read_bytes()))
    return [line.rpartition('\t')[2].strip() for line in lines if line.strip()]
