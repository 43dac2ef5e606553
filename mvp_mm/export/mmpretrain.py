"""mmpretrain's ``BEiTViT`` and ``VisionTransformer``, alone or in an ``ImageClassifier``."""

from pathlib import Path
from typing import Any

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from .student import ExportedStudent
from .target import ExportTarget, Outputs

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
        raw = _filled({**_backbone(student, path), 'out_type': 'raw'})
        whole = _filled(_model(student, path)) if student.pooling else raw

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


def _filled(config: dict[str, Any]) -> nn.Module:
    model = MODELS.build(config)
    model.init_weights()
    model.eval()  # which returns nothing in mmpretrain's backbones
    return model


def _backbone(student: ExportedStudent, path: Path) -> dict[str, Any]:
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
    backbone, head = _backbone(student, path), student.head
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
