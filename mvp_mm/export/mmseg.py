"""mmseg's ``BEiT`` and ``VisionTransformer``."""

from pathlib import Path
from typing import Any

import torch

from ..stack import quiet_stack_noise
from ..weights.names.scheme import MMSEG_VIT
from .student import ExportedStudent
from .target import ExportTarget, Outputs, unlike_beit


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
            from mmseg.registry import MODELS

        model = MODELS.build(_backbone(student, path))
        model.init_weights()
        model.eval()  # which returns nothing here
        return lambda images: {'feature maps': torch.stack(model(images), dim=1)}

    def how_to_open(self, student: ExportedStudent, path: Path) -> str:
        return f'  backbone={_backbone(student, path)}'


def _backbone(student: ExportedStudent, path: Path) -> dict[str, Any]:
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
