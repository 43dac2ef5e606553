"""timm's ``Beit``, opened by ``timm.create_model(..., checkpoint_path=FILE)``."""

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import torch as safetensors
from timm.models.beit import Beit
from torch import Tensor

from ..weights.bias_tables import INDEX
from ..weights.fit_positions import times
from ..weights.names.beit import BEIT
from .student import Student
from .target import FRESH_NORM, ExportTarget, Outputs, pools, unlike_beit

EPS = 1e-6  # of the norms of timm's BEiT, without an argument for it
# BEiT v2's entries: the same architecture as BEiT's, and images normalised with ImageNet's mean as MVP's are.
NAMES = {1024: 'beitv2_large_patch16_224'}
DEFAULT_NAME = 'beitv2_base_patch16_224'


class TimmTarget(ExportTarget):
    """One bias table a block, as timm's BEiT models have after fine-tuning.

    The final norm becomes timm's ``norm``, with the CLS token as features (``global_pool='token'``), and the
    norm of the mean ``fc_norm`` (``'avg'``). A student with neither gets a fresh ``fc_norm``, because timm's
    model wants one: its tokens are the student's, its features are their mean through a norm of weight 1.
    """

    library = 'timm'
    suffixes = ('.safetensors', '.pth')

    def lacks(self, student: Student) -> list[str]:
        return beit_in_timm_lacks(student)

    def write(self, student: Student, path: Path) -> None:
        student = student.downstream()
        state = {name: value for name, value in beit_names(student).items() if not name.endswith(INDEX)}
        if not pools(student):
            state['fc_norm.weight'] = torch.ones(student.vit.embed_dims)
            state['fc_norm.bias'] = torch.zeros(student.vit.embed_dims)
        if path.suffix == '.safetensors':
            state = {name: value.contiguous() for name, value in state.items()}
            path.write_bytes(
                safetensors.save(state, metadata=dict(format='pt', grid=times(student.vit.window)))
            )
        else:
            torch.save(student.with_grid(state), path)

    def open(self, student: Student, path: Path) -> Outputs:
        student = student.downstream()
        model = timm.create_model(
            _model_name(student), checkpoint_path=str(path), **_arguments_to_give(student)
        ).eval()
        return outputs_of_timm(model, student)

    def how_to_open(self, student: Student, path: Path) -> str:
        student = student.downstream()
        arguments = [repr(_model_name(student)), f'checkpoint_path={str(path)!r}']
        arguments += [f'{key}={value!r}' for key, value in _arguments_to_give(student).items()]
        code = f'  timm.create_model({", ".join(arguments)})'
        return code if pools(student) else f'{code}\n{FRESH_NORM}'


def beit_in_timm_lacks(student: Student) -> list[str]:
    """What timm's ``Beit`` has no place for."""
    lacking = unlike_beit(student)
    vit = student.vit
    if vit.layers[0].ln1.eps != EPS:
        lacking.append(f"its norms have eps {student.eps:g}, and timm's {EPS:g}")
    hidden, width = vit.arch_settings['feedforward_channels'], vit.embed_dims
    if int(width * (hidden / width)) != hidden:
        lacking.append(f'its MLP is {hidden} wide, which is no multiple of {width} that timm can express')
    return lacking


def beit_names(student: Student) -> dict[str, Tensor]:
    """A student's weights under Microsoft's and timm's names."""
    named = BEIT.from_mmpretrain(student.vit.state_dict())
    if student.head is not None:
        named |= {f'head.{name}': value for name, value in student.head.state_dict().items()}
    return named


def beit_arguments(student: Student) -> dict[str, Any]:
    """Arguments of timm's ``Beit`` for a student as it is."""
    vit = student.vit
    arch = vit.arch_settings
    return dict(
        img_size=student.img_size,
        patch_size=vit.patch_size,
        in_chans=vit.patch_embed.projection.in_channels,
        embed_dim=arch['embed_dims'],
        depth=arch['num_layers'],
        num_heads=arch['num_heads'],
        mlp_ratio=arch['feedforward_channels'] / arch['embed_dims'],
        use_abs_pos_emb=vit.pos_embed is not None,
        use_rel_pos_bias=vit.layers[0].attn.window is not None,
        use_shared_rel_pos_bias=vit.rel_pos_bias is not None,
        init_values=None if vit.layers[0].gamma_1 is None else 1e-5,
        num_classes=0 if student.head is None else student.head.out_features,
        global_pool='token' if vit.final_norm else 'avg',
    )


def outputs_of_timm(model: Beit, student: Student) -> Outputs:
    """Outputs of timm's model under the names of :meth:`Student.forward`."""

    def outputs(images: Tensor) -> dict[str, Tensor]:
        tokens = model.forward_features(images)
        outs = {'tokens': tokens}
        if pools(student):
            outs['features'] = model.forward_head(tokens, pre_logits=True)
        if student.head is not None:
            outs['logits'] = model(images)
        return outs

    return outputs


def _model_name(student: Student) -> str:
    return NAMES.get(student.vit.embed_dims, DEFAULT_NAME)


def _arguments_to_give(student: Student) -> dict[str, Any]:
    """Those in which a student differs from timm's model of the nearest name."""
    large = _model_name(student) != DEFAULT_NAME
    known = dict(
        img_size=(224, 224),
        patch_size=16,
        in_chans=3,
        embed_dim=1024 if large else 768,
        depth=24 if large else 12,
        num_heads=16 if large else 12,
        mlp_ratio=4.0,
        use_abs_pos_emb=False,
        use_rel_pos_bias=True,
        use_shared_rel_pos_bias=False,
        init_values=1e-5,
        num_classes=1000,
        global_pool='avg',
    )
    return {key: value for key, value in beit_arguments(student).items() if value != known[key]}
