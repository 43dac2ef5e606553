"""mmseg's ``BEiT``."""

from pathlib import Path
from typing import Any

import torch

from ..stack import quiet_stack_noise
from .student import Student
from .target import ExportTarget, Outputs, unlike_beit


class MMSegTarget(ExportTarget):
    """A bare backbone, because mmseg's BEiT ignores a prefix, with one bias table a block at its final size.

    mmseg's own resizing of tables calls a function that SciPy no longer has, so export for the size that is
    wanted: ``img_size=512``.
    """

    library = 'mmseg'
    suffixes = ('.pth',)

    def lacks(self, student: Student) -> list[str]:
        vit = student.vit
        lacking = unlike_beit(student)
        if vit.pos_embed is not None:
            lacking.append("it has absolute positions, for which mmseg's BEiT has no place")
        if vit.rel_pos_bias is None and vit.layers[0].attn.window is None:
            lacking.append("it has no relative position bias, which mmseg's BEiT always has")
        if vit.layers[0].gamma_1 is None:
            lacking.append("it has no layer scale, which mmseg's BEiT always has")
        hidden, width = vit.arch_settings['feedforward_channels'], vit.embed_dims
        if hidden % width:
            lacking.append(f'its MLP is {hidden} wide, which is no whole multiple of {width}')
        rows, cols = vit.window
        if rows != cols:
            lacking.append(f"its grid is {rows}x{cols}, and mmseg's BEiT loads squares only")
        return lacking

    def write(self, student: Student, path: Path) -> None:
        state = student.downstream().vit.state_dict()
        torch.save({name: value for name, value in state.items() if not name.startswith('ln2.')}, path)

    def open(self, student: Student, path: Path) -> Outputs:
        with quiet_stack_noise():
            from mmseg.models.backbones import BEiT

        model = BEiT(**_arguments(student, path))
        model.init_weights()
        model.eval()  # which returns nothing here
        return lambda images: {'feature maps': torch.stack(model(images), dim=1)}

    def how_to_open(self, student: Student, path: Path) -> str:
        return f'  backbone={dict(type="mmseg.BEiT", **_arguments(student, path))}'


def _arguments(student: Student, path: Path) -> dict[str, Any]:
    vit = student.vit
    arch = vit.arch_settings
    return dict(
        img_size=student.img_size,
        patch_size=vit.patch_size,
        in_channels=vit.patch_embed.projection.in_channels,
        embed_dims=arch['embed_dims'],
        num_layers=arch['num_layers'],
        num_heads=arch['num_heads'],
        mlp_ratio=arch['feedforward_channels'] // arch['embed_dims'],
        out_indices=list(range(arch['num_layers'])),
        norm_cfg=dict(type='LN', eps=student.eps),  # mmseg's default is 1e-5
        final_norm=vit.final_norm,
        init_cfg=dict(type='Pretrained', checkpoint=str(path)),
    )
