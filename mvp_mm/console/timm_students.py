"""Put a network of timm into a config of the package as its student: ``mvp-mm ... --student timm:NAME``."""

from typing import Any

import torch
from mmengine.config import Config

from ..models.backbones.timm_student import PUBLIC, TimmStudent

RANDOM = '/random'  # after a name: from scratch


def is_timm(student: str) -> bool:
    """Tell whether ``--student`` names a network of timm."""
    return student.startswith(PUBLIC)


def put_in(cfg: Config, student: str, kind: str) -> None:
    """Change a config of :func:`.config_of`, in place, to a network of timm: sizes, statistics and start.

    Pre-training starts from public weights (``timm:NAME``) or afresh (``timm:NAME/random``); all else from
    the config's checkpoint. ValueError if there is no such network, or it is no student at the recipe's size.
    """
    name = student.removeprefix(PUBLIC).removesuffix(RANDOM)
    model, known = cfg.model, cfg.model.backbone
    network = _at_size_of(name, known.img_size)
    height, width = network.img_size
    size = height if height == width else (height, width)
    given = known.get('init_cfg')
    if kind == 'pretrain':
        given = None if student.endswith(RANDOM) else dict(type='Pretrained', checkpoint=PUBLIC + name)
    backbone = dict(type=known.type.replace('MVPViT', 'TimmStudent'), model_name=name, img_size=size)
    backbone |= dict(init_cfg=given, **_outputs(network, kind))
    if rate := known.get('drop_path_rate') if kind in ('finetune', 'segment') else None:
        backbone['model_args'] = dict(drop_path_rate=rate)
    model.backbone = backbone
    own = network.network.pretrained_cfg
    model.data_preprocessor.update({key: [255 * value for value in own[key]] for key in ('mean', 'std')})
    if kind == 'pretrain':
        model.backbone.patch_size = network.patch_size
        model.neck.in_channels = network.embed_dims
        _fit_masks(cfg, network, size)
    elif kind == 'finetune':
        model.head.in_channels = network.pooled_dims
    elif kind == 'probe':
        model.head.update(in_channels=network.embed_dims, blocks=list(backbone['out_indices']))
    else:
        _fit_heads(model, [network.channels[index] for index in backbone['out_indices']], network.masks_by)


def fit_teacher(cfg: Config) -> None:
    """Tell the target generator what the student's crops are normalised by, and how grids are matched."""
    teacher, statistics = cfg.model.target_generator, cfg.model.data_preprocessor
    teacher.update(student_mean=statistics.mean, student_std=statistics.std)
    if cfg.model.backbone.patch_size > 16:  # rather an average of the teacher's tokens than a smaller crop
        teacher.grid_matching = 'tokens'


def _at_size_of(name: str, size: int) -> TimmStudent:
    """Build a student without memory for weights, at the next size that holds whole tokens."""
    with torch.device('meta'):
        try:
            return TimmStudent(name, img_size=size)
        except ValueError:
            own = TimmStudent(name)  # says what is wrong, if anything is
            whole = -(-size // own.stride) * own.stride
            return own if (whole, whole) == own.img_size else TimmStudent(name, img_size=whole)


def _outputs(network: TimmStudent, kind: str) -> dict[str, Any]:
    """Return what the student returns for a kind of training."""
    levels, depth = list(range(network.num_layers)), network.num_layers
    has_one_width = set(network.channels) == {network.embed_dims}
    is_plain = depth >= 4 and has_one_width and network.masks_by == 'token'
    if kind == 'probe':
        return dict(out_type='raw', out_indices=levels if is_plain else levels[-1:], frozen_stages=depth)
    if kind == 'segment':
        quarters = [depth * part // 4 - 1 for part in (1, 2, 3, 4)]
        return dict(out_type='featmap', out_indices=quarters if is_plain else levels[-4:])
    return dict(out_type='pooled' if kind == 'finetune' else 'raw')


def _fit_masks(cfg: Config, network: TimmStudent, size: int | tuple[int, int]) -> None:
    """Scale crops and masks of the pipelines: the same share of patches is masked."""
    tokens = network.grid[0] * network.grid[1]
    for phase in ('train', 'test'):
        loader = cfg.get(f'{phase}_dataloader') or {}
        for step in (loader.get('dataset') or {}).get('pipeline', []):
            if 'num_masking_patches' in step:
                share = tokens / step.input_size**2
                for key in ('num_masking_patches', 'min_num_patches'):
                    step[key] = max(1, round(step[key] * share))
                step.input_size = list(network.grid)
            elif 'Crop' in step.type:
                step.size = size


def _fit_heads(model: Config, channels: list[int], masks_by: str) -> None:
    """Give UperNet the levels of a student: a pyramid of a plain one's, or the stages as they are."""
    if masks_by == 'token' and len(set(channels)) == 1:
        model.neck.embed_dim = channels[0]
    else:
        model.neck = None
    levels = list(range(len(channels)))
    model.decode_head.update(in_channels=channels, in_index=levels)
    model.auxiliary_head.update(in_channels=channels[-2:][0], in_index=levels[-2:][0])
