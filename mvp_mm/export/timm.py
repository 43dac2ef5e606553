"""timm's ``Beit`` and ``VisionTransformer``, opened by ``timm.create_model(..., checkpoint_path=FILE)``."""

from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from ..weights.names.beit import BEIT
from ..weights.names.timm import VIT
from .student import ExportedStudent
from .target import FRESH_NORM, ExportTarget, Outputs, unlike_beit, unlike_timm_vit, write_safetensors

EPS = 1e-6  # of the norms of timm's BEiT and ViT, without an argument for it
# By plain or not, large or not. These entries' images are normalised with ImageNet's mean, as MVP's are.
NAMES = {
    (False, False): 'beitv2_base_patch16_224',
    (False, True): 'beitv2_large_patch16_224',
    (True, False): 'vit_base_patch16_224.mae',
    (True, True): 'vit_large_patch16_224.mae',
}


class TimmTarget(ExportTarget):
    """One bias table per block, as timm's BEiT has after fine-tuning; a plain ViT as ``VisionTransformer``.

    The final norm becomes timm's ``norm``, with the CLS token as features (``global_pool='token'``), and the
    norm of the mean ``fc_norm`` (``'avg'``). A student with neither gets a fresh ``fc_norm``, because timm's
    model wants one: its tokens are the student's, its features are their mean through a norm of weight 1.
    """

    library = 'timm'
    suffixes = ('.safetensors', '.pth')

    def lacks(self, student: ExportedStudent) -> list[str]:
        unlike = unlike_timm_vit if student.is_plain else unlike_beit
        return unlike(student) + lacks_in_timm(student)

    def write(self, student: ExportedStudent, path: Path) -> None:
        student = student.downstream()
        names = VIT if student.is_plain else BEIT
        weights = names.from_mmpretrain(student.weights(index=False)) | student.head_weights('head.')
        if student.pooling is None:
            weights['fc_norm.weight'] = torch.ones(student.encoder.embed_dims)
            weights['fc_norm.bias'] = torch.zeros(student.encoder.embed_dims)
        if path.suffix == '.safetensors':
            write_safetensors(weights, path, student)
        else:
            torch.save(student.with_grid(weights), path)

    def open(self, student: ExportedStudent, path: Path) -> Outputs:
        name, arguments = name_and_arguments(student.downstream())
        return outputs_of_timm(
            timm.create_model(name, checkpoint_path=str(path), **arguments).eval(), student
        )

    def how_to_open(self, student: ExportedStudent, path: Path) -> str:
        name, given = name_and_arguments(student.downstream())
        arguments = [repr(name), f'checkpoint_path={str(path)!r}']
        arguments += [f'{key}={value!r}' for key, value in given.items()]
        code = f'  timm.create_model({", ".join(arguments)})'
        return code if student.pooling else f'{code}\n{FRESH_NORM}'


def lacks_in_timm(student: ExportedStudent) -> list[str]:
    """Return the numbers of a student that timm's models cannot express."""
    lacking = []
    if student.eps != EPS:
        lacking.append(f"its norms have eps {student.eps:g}, and timm's {EPS:g}")
    hidden, width = (student.arch['arch'][key] for key in ('feedforward_channels', 'embed_dims'))
    if int(width * (hidden / width)) != hidden:
        lacking.append(f'its MLP is {hidden} wide, which is no multiple of {width} that timm can express')
    return lacking


def timm_arguments(student: ExportedStudent) -> dict[str, Any]:
    """Return the arguments of timm's model for a student as it is."""
    facts, arch = student.arch, student.arch['arch']
    arguments = dict(
        img_size=student.img_size,
        patch_size=facts['patch_size'],
        in_chans=facts['in_channels'],
        embed_dim=arch['embed_dims'],
        depth=arch['num_layers'],
        num_heads=arch['num_heads'],
        mlp_ratio=arch['feedforward_channels'] / arch['embed_dims'],
        init_values=1e-5 if facts['layer_scale_init_value'] else None,
        num_classes=0 if student.head is None else student.head.out_features,
        global_pool='token' if facts['final_norm'] else 'avg',
    )
    if student.is_plain:
        return arguments | dict(qkv_bias=facts['bias'])
    tables = ('use_abs_pos_emb', 'use_rel_pos_bias', 'use_shared_rel_pos_bias')
    return arguments | {key: facts[key] for key in tables}


def name_and_arguments(student: ExportedStudent) -> tuple[str, dict[str, Any]]:
    """Return timm's nearest model, and the arguments in which a student differs from it."""
    large, plain = student.encoder.embed_dims == 1024, student.is_plain
    known = dict(
        img_size=(224, 224),
        patch_size=16,
        in_chans=3,
        embed_dim=1024 if large else 768,
        depth=24 if large else 12,
        num_heads=16 if large else 12,
        mlp_ratio=4.0,
        init_values=None if plain else 1e-5,
        num_classes=0 if plain else 1000,
        global_pool='token' if plain else 'avg',
        qkv_bias=True,
        use_abs_pos_emb=False,
        use_rel_pos_bias=True,
        use_shared_rel_pos_bias=False,
    )
    arguments = timm_arguments(student)
    return NAMES[plain, large], {key: value for key, value in arguments.items() if value != known[key]}


def outputs_of_timm(model: Any, student: ExportedStudent) -> Outputs:
    """Return a function for the outputs of timm's model under the student's names."""

    def outputs(images: Tensor) -> dict[str, Tensor]:
        tokens = model.forward_features(images)
        outs = {'tokens': tokens}
        if student.pooling:
            outs['features'] = model.forward_head(tokens, pre_logits=True)
        if student.head is not None:
            outs['logits'] = model(images)
        return outs

    return outputs
