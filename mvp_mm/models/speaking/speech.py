"""What a file records of its student, so that names can classify and segment by the file alone."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...weights.config_text import value_in_config
from ...weights.read import first_line, read_metadata
from ..backbones.mvp_vit import MVPViT
from ..target_generators.base import IMAGENET_MEAN, IMAGENET_STD

# MMEngine builds whatever a `type` names, also by an import path, and files may come from others.
REGISTERED = re.compile(r'(mmpretrain\.)?\w+')
WEIGHTS = ('init_cfg', 'pretrained')  # of a student's config, which the file itself supplies
KEY = 'speech'  # in `meta` of a checkpoint, and in the metadata of a safetensors file (as JSON)


@dataclass(frozen=True)
class Speech:
    """How to build a student with its head again, and which teacher's text it was trained to match.

    Attributes:
        teacher: ``identity()`` of the target generator; of files before 0.3 its config, without ``sha256``.
        backbone: Config of the student.
        neck: Config of the head.
        mean, std: Channel statistics of the student's images, 0–255 scale.
    """

    teacher: dict[str, Any]
    backbone: dict[str, Any]
    neck: dict[str, Any]
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD

    @property
    def learns_cls(self) -> bool:
        """Whether the teacher whose text it is has a target for CLS."""
        speaks = self.teacher.get('speaks')
        teacher = self.teacher['teachers'][speaks] if speaks else self.teacher
        return teacher.get('cls') != 'none'

    def plain(self) -> dict[str, Any]:
        """Return it as plain data, for files."""
        return asdict(self)

    def as_json(self) -> str:
        """Return it as text, for the metadata of safetensors files."""
        return json.dumps(asdict(self))

    @classmethod
    def of_config(cls, model: Mapping[str, Any]) -> 'Speech | None':
        """Take it from a pre-training config's ``model``; None if that has no head and no teacher."""
        if not all(isinstance(model.get(part), Mapping) for part in ('backbone', 'neck', 'target_generator')):
            return None
        told = model.get('data_preprocessor') or {}
        statistics: dict[str, Any] = {key: list(told[key]) for key in ('mean', 'std') if told.get(key)}
        backbone = {key: value for key, value in model['backbone'].items() if key not in WEIGHTS}
        return cls(*map(_plain, (model['target_generator'], backbone, model['neck'])), **statistics)

    @classmethod
    def of_file(cls, path: Path, content: Any) -> 'Speech | None':
        """Find it in a file that :func:`.read_checkpoint` has read; None if the file tells nothing.

        Older checkpoints tell it by the text of their config, which is parsed and not run.

        Raises:
            ValueError: If the record is damaged, or names what is not registered.
        """
        meta = content.get('meta') if isinstance(content, Mapping) else None
        meta = meta if isinstance(meta, Mapping) else {}
        try:
            recorded: Any = meta.get(KEY, json.loads(read_metadata(path).get(KEY, 'null')))
            if recorded is None:
                found = cls.of_config(value_in_config(meta.get('cfg'), 'model') or {})
            else:
                found = cls(**recorded)
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f'{path} does not tell its student and its teacher: {first_line(error)}'
            ) from error
        for kind in _types(found.plain()) if found else ():
            if not REGISTERED.fullmatch(str(kind)):
                raise ValueError(f'{path} wants {kind!r} built, which is no name of a registry')
        return found


def heads_told(content: Any) -> int | None:
    """Return the number of heads in a checkpoint's config, which the weights of a plain ViT do not tell."""
    try:
        arch = value_in_config(content['meta']['cfg'], 'model')['backbone']['arch']
        return (MVPViT.arch_zoo[arch.lower()] if isinstance(arch, str) else arch)['num_heads']
    except (LookupError, TypeError, ValueError):
        return None


def _plain(value: Any) -> Any:
    """Convert MMEngine's ``ConfigDict``, which a file would name as code."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _types(value: Any) -> Iterator[Any]:
    for key, entry in value.items() if isinstance(value, Mapping) else enumerate(value):
        if key == 'type':
            yield entry
        if isinstance(entry, Mapping | list | tuple):
            yield from _types(entry)
