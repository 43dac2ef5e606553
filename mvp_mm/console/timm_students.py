"""Put a network of timm into a config of the package as its student: ``mvp-mm ... --student timm:NAME``."""

from typing import Any

import torch
from mmengine.config import Config

from ..models.backbones.timm_student import PUBLIC, TimmStudent

RANDOM = '/random'  # after a name: from scratch
CONFIGS = dict(
    pretrain='mvp/timm_vits16_dinov3.py',
    finetune='finetune/vitb16_in1k.py',
    probe='linear_probe/vitb16_in1k.py',
    segment='upernet/vitb16_custom_512x512.py',
)
FROM_SCRATCH = 'mvp/vitb16_in1k.py'


def is_timm(student: str) -> bool:
    """Tell whether ``--student`` names a network of timm."""
    return student.startswith(PUBLIC)


def config_of(student: str, kind: str) -> str:
    """Return the package's config whose recipe a network of timm is trained by."""
    return FROM_SCRATCH if kind == 'pretrain' and student.endswith(RANDOM) else CONFIGS[kind]


def put_in(cfg: Config, student: str, kind: str) -> None:
    """Change a config of :func:`config_of` to a network of timm, with its sizes, statistics and start.

    Args:
        cfg: Changed in place. A checkpoint that it starts from is kept.
        student: ``timm:NAME``, for pre-training from public weights; ``timm:NAME/random`` for a fresh start.
        kind: ``'pretrain'``, ``'finetune'``, ``'probe'`` or ``'segment'``.

    Raises:
        ValueError: If there is no such network, or it cannot be a student at the recipe's size.
    """
    name = student.removeprefix(PUBLIC).removesuffix(RANDOM)
    model, known = cfg.model, cfg.model.backbone
    network = _at_size_of(name, known.img_size)
    size = network.img_size[0] if network.img_size[0] == network.img_size[1] else network.img_size
    given = known.get('init_cfg')
    if kind == 'pretrain':
        given = None if student.endswith(RANDOM) else dict(type='Pretrained', checkpoint=PUBLIC + name)
    backbone = dict(type=known.type.replace('MVPViT', 'TimmStudent'), model_name=name, img_size=size)
    backbone |= dict(init_cfg=given, **_outputs(network, kind))
    if rate := known.get('drop_path_rate') if kind in ('finetune', 'segment') else None:
        backbone['model_args'] = dict(drop_path_rate=rate)
    model.backbone = backbone
    statistics = {
        key: [255 * value for value in network.network.pretrained_cfg[key]] for key in ('mean', 'std')
    }
    model.data_preprocessor.update(statistics)
    width = network.embed_dims
    if kind == 'pretrain':
        model.backbone.patch_size = network.patch_size
        model.neck.in_channels = width
        _fit_masks(cfg, network)
    elif kind == 'finetune':
        model.head.in_channels = network.pooled_dims
    elif kind == 'probe':
        model.head.update(in_channels=width, blocks=list(backbone['out_indices']))
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


def _is_plain(network: TimmStudent) -> bool:
    return (
        network.num_layers >= 4
        and set(network.channels) == {network.embed_dims}
        and network.masks_by == 'token'
    )


def _outputs(network: TimmStudent, kind: str) -> dict[str, Any]:
    """Return what the student returns for a kind of training."""
    levels = network.num_layers
    if kind == 'probe':
        indices = list(range(levels)) if _is_plain(network) else [levels - 1]
        return dict(out_type='raw', out_indices=indices, frozen_stages=levels)
    if kind == 'segment':
        if _is_plain(network):  # quarters of the depth
            return dict(out_type='featmap', out_indices=[levels * part // 4 - 1 for part in (1, 2, 3, 4)])
        return dict(out_type='featmap', out_indices=list(range(levels))[-4:])
    return dict(out_type='pooled' if kind == 'finetune' else 'raw')


def _fit_masks(cfg: Config, network: TimmStudent) -> None:
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
                step.size = (
                    network.img_size[0] if network.img_size[0] == network.img_size[1] else network.img_size
                )


def _fit_heads(model: Config, channels: list[int], masks_by: str) -> None:
    """Give UperNet the levels of a student: a pyramid of a plain one's, or the stages as they are."""
    if masks_by == 'token' and len(set(channels)) == 1:
        model.neck.embed_dim = channels[0]
    else:
        model.neck = None
    levels = list(range(len(channels)))
    model.decode_head.update(in_channels=channels, in_index=levels)
    model.auxiliary_head.update(in_channels=channels[-2:][0], in_index=levels[-2:][0])
