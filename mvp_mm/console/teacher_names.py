"""What ``mvp-mm pretrain --teacher`` takes: a name that tells the target generator and its width."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
from mmengine.config import ConfigDict
from mmengine.logging import print_log

from ..models.target_generators.clip import clip_space
from ..models.target_generators.clip_weights import CONFIG_NAME, HUB, LOCAL
from ..models.target_generators.timm import HUB as TIMM_HUB
from ..models.target_generators.timm import timm_width
from ..models.target_generators.transformers import transformers_width
from ..zoo import download_weights, list_models, model_config

DEFAULT_TEACHER = 'ViT-B-16-quickgelu/openai'  # paper §3.3.1
TINY_TEACHER = 'teachers_clip_vittiny_photographs'  # of 64 pixels, as the student; ships
TIMM = 'timm:'
TRANSFORMERS = 'transformers:'
ZOO = 'teachers_'  # before the names of the package's own
RANDOM = 'random'
EXPECTED = (
    f'expected MODEL/TAG, such as {DEFAULT_TEACHER}, MODEL/FILE, FOLDER, {HUB}owner/name, timm:MODEL, '
    "timm:MODEL/FILE, transformers:FOLDER, or a name that mvp_mm.list_models(task='Teacher') gives"
)
Named = tuple[str, str | bool | None]  # a model's name, and `pretrained` of its target generator


def teacher_config(teacher: str) -> tuple[dict[str, Any], int]:
    """Read the name of a teacher.

    Args:
        teacher: ``MODEL/TAG``, ``MODEL/FILE`` or ``MODEL/random`` of open_clip, where MODEL may be a model
            config (``.json``) too; a folder with ``open_clip_config.json``, ``local-dir:FOLDER`` or
            ``hf-hub:owner/name``; ``timm:`` with ``MODEL``, ``MODEL/FILE``, ``MODEL/random``, a folder with
            timm's ``config.json`` or ``hf-hub:owner/name``; ``transformers:`` with a folder, ``owner/name``,
            or ``owner/name/random``; or a CLIP teacher of the zoo.

    Returns:
        The config of the target generator, without the student's ``patch_size``, and the width of its
        targets, which the student's neck must have. A CLIP whose patches have no joint space is taken
        before its projection, with a line that says so.

    Raises:
        ValueError: If it is no such name, or that model cannot serve as a teacher.
        FileNotFoundError: If the file, the folder, the tag or the config of a repository cannot be had.
    """
    if teacher.startswith(TIMM):
        name, pretrained = _of_timm(teacher.removeprefix(TIMM))
        width = timm_width(name, pretrained)
        return dict(type='TimmTargetGenerator', model_name=name, pretrained=pretrained), width
    if teacher.startswith(TRANSFORMERS):
        place = teacher.removeprefix(TRANSFORMERS)
        is_random = place.endswith(f'/{RANDOM}') and not Path(place).expanduser().exists()
        place = place.removesuffix(f'/{RANDOM}') if is_random else place
        given = dict(model_name=place, pretrained=None if is_random else True)
        return dict(type='TransformersTargetGenerator', **given), transformers_width(place)
    of_zoo = teacher.startswith(ZOO) or teacher in list_models(task='Teacher')
    name, pretrained = _of_zoo(teacher) if of_zoo else _of_open_clip(teacher)
    space, width = clip_space(name, pretrained)
    if space != 'joint':
        print_log(f'{name} pools by attention: its targets are patch tokens before that', logger='current')
    generator = dict(type='CLIPTargetGenerator', model_name=name, pretrained=pretrained, space=space)
    return generator, width


def put_teachers(model: ConfigDict, names: Sequence[str]) -> None:
    """Give a pre-training config's model its teacher, or several, with a head for each; see above."""
    found = {name: teacher_config(name) for name in names}
    if len(found) == 1:
        generator, model.neck.out_channels = found[names[0]]
    else:
        teachers, widths = dict[str, Any](), dict[str, int]()
        for config, width in found.values():
            name = re.sub(r'\W+', '_', Path(config['model_name']).name.removesuffix('.json')).lower()
            name += f'_{len(teachers)}' * (name in teachers)
            teachers[name], widths[name] = config, width
        generator = dict(type='TargetGenerators', teachers=teachers)
        model.type = 'MultiTeacherMVP'
        model.neck = dict(type='MVPNecks', in_channels=model.neck.in_channels, out_channels=widths)
    model.target_generator = dict(generator, patch_size=model.backbone.patch_size)


def _of_zoo(teacher: str) -> Named:
    known = list_models(task='Teacher')
    if teacher not in known:
        raise ValueError(f'the zoo has no teacher {teacher!r}; it has: {", ".join(known)}')
    model = model_config(teacher).model
    if 'model_name' not in model:
        raise ValueError(f'{teacher} is no CLIP: give it as a config of its own')
    return model.model_name, str(download_weights(teacher))


def _of_timm(name: str) -> Named:
    if not name:
        raise ValueError(f'{TIMM!r} names no teacher: {EXPECTED}')
    if name.startswith((*TIMM_HUB, LOCAL)) or Path(name).expanduser().is_dir():
        return name, True
    name, _, file = name.partition('/')
    return name, None if file == RANDOM else file or True


def _of_open_clip(teacher: str) -> Named:
    if teacher.startswith((HUB, LOCAL)):
        return teacher, True
    path = Path(teacher).expanduser()
    name, weights = _split(teacher)
    # a folder of one's own may be called as a model is
    if name and not (path.exists() and not Path(weights).expanduser().exists()):
        return name, None if weights == RANDOM else weights
    if teacher and path.is_dir():
        return teacher, True
    if path.is_file() and path.suffix != '.json':
        if (path.parent / CONFIG_NAME).is_file():
            return str(path.parent), str(path)
        what = f'which model its weights are of (there is no {CONFIG_NAME} beside it): give MODEL/FILE'
        raise ValueError(f'{teacher} does not tell {what}')
    if teacher.startswith(('/', '.', '~')):
        raise FileNotFoundError(f'there is no teacher {teacher}: no such file or folder; {EXPECTED}')
    name, _, weights = teacher.partition('/')
    if not weights:
        raise ValueError(f'{teacher!r} is no teacher: {EXPECTED}')
    return name, weights


def _split(teacher: str) -> tuple[str, str]:
    """Split ``MODEL/WEIGHTS``, where both may hold slashes; two empty strings if it is none."""
    name, is_config, weights = teacher.partition('.json/')
    if is_config:
        return f'{name}.json', weights
    known, parts = open_clip.list_models(), teacher.split('/')
    for count in range(1, len(parts)):
        if '-'.join(parts[:count]) in known:  # ViT-B/16 is open_clip's ViT-B-16
            return '-'.join(parts[:count]), '/'.join(parts[count:])
    return '', ''
