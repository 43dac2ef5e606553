"""The base class of the evaluators of models that text can name."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from ..datasets.same_classes import classes_of
from ..models.compilation import require_choice
from ..models.prompts.saved_prompts import load_prompts
from ..models.speaking.class_embeddings import ClassEmbeddings
from ..text.class_names import class_names
from ..text.templates import Templates
from .evaluator import Evaluator


class SpeakingEvaluator(Evaluator):
    """Evaluate a student by the names of classes, its teacher by the same code, or both.

    Args:
        dataloader: The images to evaluate on.
        classes: A dataset of :func:`.class_names`, or an entry for each class: a name, several separated by
            commas, or a list of them. Default None: those that the dataloader's dataset tells.
        templates: See :meth:`.TextTower.class_embeddings`.
        prompts: File of learnt prompts (:func:`.load_prompts`) to put the names into. Default None.
        of: ``'student'`` (default); ``'teacher'``, its target generator, whose ``teacher_<name>`` are
            computed once, as they never change; or ``'both'``, with ``gap_<name>``, teacher minus student.
        **kwargs: See :class:`Evaluator`.

    Raises:
        ValueError: If the dataset has another number of classes.
    """

    def __init__(
        self,
        dataloader: DataLoader,
        classes: str | Sequence[str | Sequence[str]] | None = None,
        templates: Templates | None = None,
        of: str = 'student',
        prompts: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(dataloader, **kwargs)
        require_choice(of, 'of', ('student', 'teacher', 'both'))
        own = classes_of(dataloader.dataset)
        names = own if classes is None else classes
        if classes is None and not own:
            raise ValueError(
                f'{type(self).__name__}: the dataset does not tell the names of its classes: give `classes`'
            )
        self.classes = class_names(names) if isinstance(names, str) else list(names)
        self.asked = self.classes  # those to embed
        self.templates, self.of = templates, of
        self.prompts = None if prompts is None else load_prompts(prompts)
        if prompts is not None and templates is not None:
            raise ValueError(f'{templates=} and {prompts=}: expected one of them, or neither')
        if own and len(own) != len(self.classes):
            raise ValueError(
                f'{type(self).__name__}: classes has {len(self.classes)} entries and the dataset {len(own)} '
                'classes: give an entry for each, in their order'
            )
        self._teacher: dict[str, float] = {}

    def require(self, model: Any) -> None:
        """Embed the classes, so that wrong ones are found before a run begins."""
        for speaker in self._speakers(model):
            self.embeddings(speaker)

    def evaluate(self, model: Any) -> dict[str, float]:
        """Compute the numbers of the model, of its teacher, or of both."""
        *student, last = self._speakers(model)
        if self.of == 'student':
            return self.evaluate_speaker(model, last)
        found = self.evaluate_speaker(model, student[0]) if student else {}
        self._teacher = self._teacher or self.evaluate_speaker(model, last)
        gaps = {f'gap_{name}': self._teacher[name] - value for name, value in found.items()}
        return found | {f'teacher_{name}': value for name, value in self._teacher.items()} | gaps

    def _speakers(self, model: Any) -> list[Any]:
        """Return what is to be evaluated; the teacher last."""
        teacher = getattr(model, 'target_generator', None)
        if self.of != 'student' and teacher is None:
            raise ValueError(f"{type(model).__name__} has no target_generator: use of='student'")
        found = dict(student=[model], teacher=[teacher], both=[model, teacher])[self.of]
        if not hasattr(found[0], 'embed_image'):
            raise ValueError(f'a {type(model).__name__} cannot speak: expected an MVP with a CLIP teacher')
        return found

    @abstractmethod
    def evaluate_speaker(self, model: nn.Module, speaker: Any) -> dict[str, float]:
        """Return numbers by name of ``speaker``, a :class:`.Speaks`, on batches as ``model`` takes them."""

    def embeddings(self, speaker: Any) -> ClassEmbeddings:
        """Embed the classes by the text tower of a speaker, on its device."""
        device: torch.device = speaker.image_mean.device
        tower = speaker.text_tower.to(device)
        names = self.asked if self.prompts is None else self.prompts.class_embeddings(tower, self.asked)
        return tower.class_embeddings(names, self.templates).to(device)
