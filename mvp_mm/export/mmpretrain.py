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
        config = _backbone(student, path)
        raw = _filled({**config, 'out_type': 'raw'})
        pooled = None
        if student.pooling:
            pooled = _filled(config if student.head is None else _classifier(student, path))

        def outputs(images: Tensor) -> dict[str, Tensor]:
            outs = {'tokens': raw(images)[-1]}
            if pooled is not None and student.head is None:
                outs['features'] = pooled(images)[-1]
            elif pooled is not None:
                outs['logits'] = pooled(images, mode='tensor')
            return outs

        return outputs

    def how_to_open(self, student: ExportedStudent, path: Path) -> str:
        if student.head is not None:
            return f'  mmpretrain.registry.MODELS.build({_classifier(student, path)})'
        return f'  backbone={_backbone(student, path)}'


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
    pooled = {'avg': 'avg_featmap', 'token': 'cls_token', None: 'raw'}
    config = dict(
        type='mmpretrain.VisionTransformer' if plain else 'mmpretrain.BEiTViT',
        arch=dict(student.encoder.arch_settings),
        img_size=student.img_size,
        patch_size=facts['patch_size'],
        in_channels=facts['in_channels'],
        out_type=pooled[student.pooling],
        final_norm=facts['final_norm'],
        layer_scale_init_value=facts['layer_scale_init_value'],
    )
    if plain:
        config['qkv_bias'] = facts['bias']
    else:
        config |= {key: facts[key] for key in ('bias', 'use_rel_pos_bias', 'use_abs_pos_emb')}
    config |= {key: student.config[key] for key in COMMON if key in student.config}
    return config | dict(init_cfg=dict(type='Pretrained', checkpoint=str(path), prefix='backbone.'))


def _classifier(student: ExportedStudent, path: Path) -> dict[str, Any]:
    assert student.head is not None
    backbone = _backbone(student, path)
    del backbone['init_cfg']
    classes, width = student.head.out_features, student.head.in_features
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=backbone,
        head=dict(type='mmpretrain.LinearClsHead', num_classes=classes, in_channels=width),
        init_cfg=dict(type='Pretrained', checkpoint=str(path)),
    )
