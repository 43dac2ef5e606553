"""mmpretrain's ``BEiTViT`` and ``VisionTransformer``, and mmseg's ``BEiT`` and ``VisionTransformer``."""

from pathlib import Path
from typing import Any

import torch
from mmengine.registry import Registry
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..stack import quiet_stack_noise
from ..weights.names.scheme import MMSEG_VIT
from .student import ExportedStudent
from .target import ExportTarget, Outputs, unlike_beit

# Arguments of a config's backbone that mmpretrain's have as well.
COMMON = ('norm_cfg', 'with_cls_token', 'patch_cfg', 'layer_cfgs', 'interpolate_mode')


class MMPretrainTarget(ExportTarget):
    """A checkpoint whose backbone lies under ``backbone.`` and whose classifier under ``head.fc.``.

    One bias table per block: mmpretrain expands a shared one only in a file without ``backbone.``.
    """

    library = 'mmpretrain'
    suffixes = ('.pth',)

    def write(self, student: ExportedStudent, path: Path) -> None:
        weights = student.downstream().weights('backbone.') | student.head_weights('head.fc.')
        torch.save(dict(meta=dict(), state_dict=student.with_grid(weights, 'backbone.')), path)

    def open(self, student: ExportedStudent, path: Path) -> Outputs:
        raw = _filled(MODELS, {**_in_mmpretrain(student, path), 'out_type': 'raw'})
        whole = _filled(MODELS, _model(student, path)) if student.pooling else raw

        def outputs(images: Tensor) -> dict[str, Tensor]:
            outs = {'tokens': raw(images)[-1]}
            if student.head is not None:
                outs['logits'] = whole(images, mode='tensor')
            elif student.pooling:
                outs['features'] = whole(images)[-1]
            return outs

        return outputs

    def how_to_open(self, student: ExportedStudent, path: Path) -> str:
        start, end = ('backbone=', '') if student.head is None else ('mmpretrain.registry.MODELS.build(', ')')
        return f'  {start}{_model(student, path)}{end}'


class MMSegTarget(ExportTarget):
    """A bare backbone, because mmseg ignores a prefix, with one bias table per block at its final size.

    mmseg's own resizing of tables calls a function that SciPy no longer has, so export for the size that is
    wanted: ``img_size=512``.
    """

    library = 'mmseg'
    suffixes = ('.pth',)

    def lacks(self, student: ExportedStudent) -> list[str]:
        facts, plain, beit = student.arch, student.is_plain, not student.is_plain
        hidden, width = facts['feedforward_channels'], facts['embed_dims']
        tables = facts['use_rel_pos_bias'] or facts['use_shared_rel_pos_bias']
        scale, bias, positions = (facts[key] for key in ('layer_scale_init_value', 'bias', 'use_abs_pos_emb'))
        rows, cols = student.grid
        own = {
            f'its MLP is {hidden} wide, which is no whole multiple of {width}': hidden % width,
            "it has layer scale, for which mmseg's ViT has no place": plain and scale,
            "its attention has no bias, and mmseg's would have none on its output either": plain and not bias,
            "it has absolute positions, for which mmseg's BEiT has no place": beit and positions,
            "it has no relative position bias, which mmseg's BEiT always has": beit and not tables,
            "it has no layer scale, which mmseg's BEiT always has": beit and not scale,
            f"its grid is {rows}x{cols}, and mmseg's BEiT loads squares only": beit and rows != cols,
        }
        return unlike_beit(student, own, or_vit=True)

    def write(self, student: ExportedStudent, path: Path) -> None:
        weights = student.downstream().weights()
        kept = {name: value for name, value in weights.items() if not name.startswith('ln2.')}
        torch.save(MMSEG_VIT.from_mmpretrain(kept) if student.is_plain else kept, path)

    def open(self, student: ExportedStudent, path: Path) -> Outputs:
        with quiet_stack_noise():
            from mmseg.registry import MODELS as SEGMENTORS

        model = _filled(SEGMENTORS, _in_mmseg(student, path))
        return lambda images: {'feature maps': torch.stack(model(images), dim=1)}

    def how_to_open(self, student: ExportedStudent, path: Path) -> str:
        return f'  backbone={_in_mmseg(student, path)}'


def _filled(registry: Registry, config: dict[str, Any]) -> nn.Module:
    model = registry.build(config)
    model.init_weights()
    model.eval()  # which returns nothing in these libraries' backbones
    return model


def _in_mmpretrain(student: ExportedStudent, path: Path) -> dict[str, Any]:
    student = student.downstream()
    facts = student.arch
    # Layer scale has the student's names in BEiTViT only, which holds a ViT as well.
    plain = student.is_plain and not facts['layer_scale_init_value']
    same: tuple[str, ...] = ('patch_size', 'in_channels', 'final_norm', 'layer_scale_init_value')
    same += () if plain else ('bias', 'use_rel_pos_bias', 'use_abs_pos_emb')
    return dict(
        type='mmpretrain.VisionTransformer' if plain else 'mmpretrain.BEiTViT',
        arch=dict(student.encoder.arch_settings),
        img_size=student.img_size,
        out_type={'avg': 'avg_featmap', 'token': 'cls_token', None: 'raw'}[student.pooling],
        **{key: facts[key] for key in same},
        **(dict(qkv_bias=facts['bias']) if plain else {}),
        **{key: student.config[key] for key in COMMON if key in student.config},
        init_cfg=dict(type='Pretrained', checkpoint=str(path), prefix='backbone.'),
    )


def _model(student: ExportedStudent, path: Path) -> dict[str, Any]:
    backbone, head = _in_mmpretrain(student, path), student.head
    if head is None:
        return backbone
    del backbone['init_cfg']
    sizes = dict(num_classes=head.out_features, in_channels=head.in_features)
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=backbone,
        head=dict(type='mmpretrain.LinearClsHead', **sizes),
        init_cfg=dict(type='Pretrained', checkpoint=str(path)),
    )


def _in_mmseg(student: ExportedStudent, path: Path) -> dict[str, Any]:
    facts = student.arch
    same = ('patch_size', 'in_channels', 'final_norm', 'embed_dims', 'num_layers', 'num_heads')
    return dict(
        type='mmseg.VisionTransformer' if student.is_plain else 'mmseg.BEiT',
        img_size=student.img_size,
        **{key: facts[key] for key in same},
        mlp_ratio=facts['feedforward_channels'] // facts['embed_dims'],
        out_indices=list(range(facts['num_layers'])),
        norm_cfg=dict(type='LN', eps=student.eps),  # mmseg's default is 1e-5
        **(dict(patch_bias=True) if student.is_plain else {}),
        init_cfg=dict(type='Pretrained', checkpoint=str(path)),
    )
