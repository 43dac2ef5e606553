"""mmpretrain's ``BEiTViT``, alone or in an ``ImageClassifier``."""

from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModule
from mmpretrain.models import BEiTViT
from mmpretrain.registry import MODELS
from torch import Tensor

from .student import Student
from .target import ExportTarget, Outputs, pools


class MMPretrainTarget(ExportTarget):
    """A checkpoint whose backbone lies under ``backbone.`` and whose classifier under ``head.fc.``.

    One bias table a block: mmpretrain expands a shared one only in a file without ``backbone.``.
    """

    library = 'mmpretrain'
    suffixes = ('.pth',)

    def lacks(self, student: Student) -> list[str]:
        return []  # MVPViT has BEiTViT's arguments and names

    def write(self, student: Student, path: Path) -> None:
        student = student.downstream()
        state = {f'backbone.{name}': value for name, value in student.vit.state_dict().items()}
        if student.head is not None:
            state |= {f'head.fc.{name}': value for name, value in student.head.state_dict().items()}
        torch.save(dict(meta=dict(), state_dict=student.with_grid(state, 'backbone.')), path)

    def open(self, student: Student, path: Path) -> Outputs:
        arguments = _arguments(student.downstream())
        pretrained = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
        raw = _filled(BEiTViT(**{**arguments, 'out_type': 'raw'}, init_cfg=pretrained))
        if student.head is not None:
            pooled = _filled(MODELS.build(_classifier(student, arguments, path)))
        elif pools(student):
            pooled = _filled(BEiTViT(**arguments, init_cfg=pretrained))

        def outputs(images: Tensor) -> dict[str, Tensor]:
            outs = {'tokens': raw(images)[-1]}
            if student.head is not None:
                outs['logits'] = pooled(images, mode='tensor')
            elif pools(student):
                outs['features'] = pooled(images)[-1]
            return outs

        return outputs

    def how_to_open(self, student: Student, path: Path) -> str:
        arguments = _arguments(student.downstream())
        if student.head is not None:
            return f'  mmpretrain.registry.MODELS.build({_classifier(student, arguments, path)})'
        init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
        return f'  backbone={dict(type="mmpretrain.BEiTViT", **arguments, init_cfg=init_cfg)}'


def _filled(model: BaseModule) -> BaseModule:
    """A model with the weights that its ``init_cfg`` names, in eval mode."""
    model.init_weights()
    model.eval()  # which returns nothing in mmpretrain's backbones
    return model


def _arguments(student: Student) -> dict[str, Any]:
    """Arguments of ``BEiTViT``: those of the student that it knows, without what only training uses."""
    vit = student.vit
    given = student.arguments
    pooled = 'avg_featmap' if student.has_mean_norm else 'cls_token'
    arguments = dict(
        arch=dict(vit.arch_settings),
        img_size=student.img_size,
        patch_size=vit.patch_size,
        out_type=pooled if pools(student) else 'raw',
        final_norm=vit.final_norm,
        use_rel_pos_bias=vit.layers[0].attn.window is not None,
        use_abs_pos_emb=vit.pos_embed is not None,
        layer_scale_init_value=0 if vit.layers[0].gamma_1 is None else 0.1,
    )
    known = (
        'in_channels',
        'bias',
        'norm_cfg',
        'with_cls_token',
        'patch_cfg',
        'layer_cfgs',
        'interpolate_mode',
    )
    return arguments | {key: given[key] for key in known if key in given}


def _classifier(student: Student, arguments: dict[str, Any], path: Path) -> dict[str, Any]:
    classes, width = student.head.out_features, student.vit.embed_dims
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.BEiTViT', **arguments),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=classes, in_channels=width),
        init_cfg=dict(type='Pretrained', checkpoint=str(path)),
    )
