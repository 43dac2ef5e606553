"""Several teachers at once, each with one look at the same crop."""

from collections.abc import Iterable, Mapping
from itertools import product
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..speaking.speaks import Speaks
from ..speaking.text_tower import TextTower
from ..step_counter import StepCounter

ALIKE = ('patch_size', 'student_mean', 'student_std')  # of all teachers, whose crop and grid is one


@MODELS.register_module()
class TargetGenerators(Speaks, BaseModule):
    """Several frozen teachers: for :class:`MultiTeacherMVP`.

    Each brings the student's crop to its own statistics, size and patch grid, as it does alone, and runs
    once. In the first step each one's parameters, multiply-adds and bytes of targets are logged.

    Args:
        teachers: Configs or modules of :class:`TargetGenerator`, by names that heads, logs and options use.
        weights: Weight of each teacher's loss. Default None: 1 each.
        drop: Probability that a teacher is left out of a training step, and not run; one always stays.
            Default 0. UNIC (arXiv:2408.05088) drops too, but never the teacher with the largest loss, for
            which all have to run.
        seed: Of these draws, which depend on the step alone: all ranks and a restart draw alike. Default 0.
        speaks: Name of the teacher in whose space text can query the student. Default None: the first of a
            kind that has text.
        **defaults: Arguments of all teachers whose config does not give its own, such as ``patch_size``.

    Attributes:
        out_channels (dict): Width of each teacher's targets.
        teaches_cls (bool): Whether there is a target for CLS: from the teacher that speaks, else from any.
        image_size (tuple): :attr:`TargetGenerator.image_size` of the teacher that speaks, or of the first.
        student_mean, student_std (Tensor): Statistics the crop was normalised by, ``(3,)``, 0–255 scale.

    Raises:
        ValueError: If teachers differ in the student's patch size or statistics, or an argument is wrong.
    """

    def __init__(
        self,
        teachers: Mapping[str, dict | nn.Module],
        weights: Mapping[str, float] | None = None,
        drop: float = 0.0,
        seed: int = 0,
        speaks: str | None = None,
        **defaults: Any,
    ) -> None:
        super().__init__()
        require_names(teachers)
        given = dict(weights or {})
        if unknown := sorted({*given, *([speaks] if speaks else [])} - {*teachers}):
            raise ValueError(f'no teacher is called {unknown[0]!r}; there are: {", ".join(teachers)}')
        self.weights = {name: float(given.get(name, 1)) for name in teachers}
        if not all(weight > 0 for weight in self.weights.values()):
            raise ValueError(f'weights={given}: expected numbers above 0 (leave out a teacher of weight 0)')
        if not 0 <= drop < 1:
            raise ValueError(f'drop={drop}: expected a probability of 0 or more, below 1')
        self.drop, self.seed = drop, seed
        parts: dict[str, Any] = {
            name: part if isinstance(part, nn.Module) else MODELS.build(part, default_args=defaults)
            for name, part in teachers.items()
        }
        self.teachers: Any = nn.ModuleDict(parts)
        self.first = next(iter(parts.values()))
        for key, (name, part) in product(ALIKE, parts.items()):
            value, first = getattr(part, key), getattr(self.first, key)
            if not torch.equal(torch.as_tensor(value).cpu(), torch.as_tensor(first).cpu()):
                raise ValueError(f'the teachers see one crop, but {key} of {name} is {value}, not {first}')
        self.out_channels = {name: part.out_channels for name, part in parts.items()}
        self.extra_tokens = {name: part.num_extra_tokens for name, part in parts.items()}
        self.num_extra_tokens = max(self.extra_tokens.values())
        self.speaks = speaks or _speaker(parts, {name: vars(part) for name, part in parts.items()})
        self.patch_size = self.first.patch_size
        self.image_size = parts[self.speaks].image_size if self.speaks else self.first.image_size
        self.teaches_cls = bool(self.extra_tokens[self.speaks] if self.speaks else self.num_extra_tokens)
        self.counter = StepCounter() if drop else None
        self._told = False

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the targets of a batch by each teacher of this step.

        Args:
            images: The student's crop, ``(B, 3, H, W)``, normalised by the student's statistics.

        Returns:
            By name ``(B, 1+M, D)``, as :meth:`TargetGenerator.forward`.
        """
        if self.training and not self._told:
            self._told = True
            for name, teacher in self.teachers.items():
                print_log(f'Teacher {name}: {cost_of(teacher, images)}', 'current')
        return {name: self.teachers[name](images) for name in self._drawn()}

    def _drawn(self) -> list[str]:
        """Draw the teachers of this step from (seed, step), not from the random state of the training."""
        names = list(self.teachers)
        if self.counter is None or not self.training:
            return names
        draws = np.random.default_rng((self.seed, self.counter.count)).random(len(names))
        self.counter.advance()
        draws[draws.argmax()] = 1.0  # stays
        return [name for name, draw in zip(names, draws, strict=True) if draw >= self.drop]

    def shares(self, names: Iterable[str]) -> dict[str, float]:
        """Return the weights of some teachers, divided by their sum."""
        total = sum(self.weights[name] for name in names)
        return {name: self.weights[name] / total for name in names}

    def identity(self) -> dict[str, Any]:
        """Tell the teachers, and the one that ``speaks``, whose ``sha256`` a text tower must have."""
        known = {name: teacher.identity() for name, teacher in self.teachers.items()}
        sha256 = known[self.speaks].get('sha256') if self.speaks else None
        return dict(type=type(self).__name__, teachers=known, speaks=self.speaks, sha256=sha256)

    @property
    def text_tower(self) -> TextTower:
        """The text tower of the teacher that ``speaks``: ValueError if none has text."""
        return self._speaking.text_tower

    def embed_image(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the targets of whole images by the teacher that ``speaks``."""
        return self._speaking.embed_image(images)

    @property
    def _speaking(self) -> Any:
        if self.speaks is None:
            kinds = {name: type(part).__name__ for name, part in self.teachers.items()}
            raise ValueError(_none_speaks(kinds))
        return self.teachers[self.speaks]

    @classmethod
    def load_text_tower(cls, identity: Mapping[str, Any], file: str | None = None) -> TextTower:
        """Load the text tower of the teacher that speaks; arguments as of :class:`CLIPTargetGenerator`'s."""
        teachers = identity['teachers']
        kinds = {name: MODELS.get(str(teacher.get('type'))) for name, teacher in teachers.items()}
        speaks = identity.get('speaks') or _speaker(kinds, teachers)
        if speaks is None:
            raise ValueError(_none_speaks({name: teacher.get('type') for name, teacher in teachers.items()}))
        return kinds[speaks].load_text_tower(teachers[speaks], file)

    student_mean = image_mean = property(attrgetter('first.student_mean'))
    student_std = image_std = property(attrgetter('first.student_std'))


def require_names(teachers: Mapping[str, Any]) -> None:
    """Raise ValueError unless there are teachers, named as modules can be."""
    if not isinstance(teachers, Mapping) or not teachers:
        raise ValueError(f'expected teachers by name, such as dict(clip=..., dino=...), got {teachers!r}')
    for name in teachers:
        # MMEngine adds up whatever is logged with "loss" in its name
        if not str(name).isidentifier() or hasattr(nn.ModuleDict, name) or 'loss' in name:
            raise ValueError(f'{name!r} cannot name a teacher: take a word such as clip or dino')


def cost_of(generator: Any, images: Tensor) -> str:
    """Say a :class:`TargetGenerator`'s parameters, multiply-adds and bytes of targets of a batch of crops.

    One image is encoded. Matrix products and convolutions count, as in the zoo's figures. Memory is that of
    the weights, in float32 and again in the type that targets are computed in if that is another.
    """
    kept, generator.compile_blocks = generator.compile_blocks, False  # the counter sees into no compiled code
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # nor into torch's fused attention layer
    try:
        with FlopCounterMode(display=False) as counter:
            targets = generator(images[:1])
    finally:
        generator.compile_blocks = kept
        torch.backends.mha.set_fastpath_enabled(fast)
    count = sum(parameter.numel() for parameter in generator.teacher.parameters())
    own, item = targets.dtype, targets.element_size()
    weights = count * (4 if own == torch.float32 else 4 + item)
    _, tokens, width = targets.shape
    an_image = tokens * width * item
    return (
        f'{count / 1e6:.1f} M parameters ({weights / 1e6:.0f} MB), '
        f'{counter.get_total_flops() / 2e9:.2f} G multiply-adds an image; targets {tokens} x {width} '
        f'{str(own).removeprefix("torch.")}, {an_image * len(images) / 1e6:.1f} MB a batch of {len(images)}'
    )


def _speaker(kinds: Mapping[str, Any], settings: Mapping[str, Mapping]) -> str | None:
    """Return the first teacher of a kind that has text, rather one whose tokens are in the space of text."""
    able = [name for name, kind in kinds.items() if hasattr(kind, 'load_text_tower')]
    joint = [name for name in able if settings[name].get('space', 'joint') == 'joint']
    return next(iter([*joint, *able]), None)


def _none_speaks(kinds: Mapping[str, Any]) -> str:
    listed = ', '.join(f'{name}, a {kind}' for name, kind in kinds.items())
    return f'these teachers cannot speak: none has a text tower, as a CLIP has ({listed})'
