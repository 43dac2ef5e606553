"""timm's networks, for MVPViT ``Beit`` and ``VisionTransformer``, and Microsoft's BEiT, timm's origin."""

from pathlib import Path
from typing import Any

import timm
import torch
from timm.models.beit import Beit, checkpoint_filter_fn
from torch import Tensor

from ..weights.names.scheme import BEIT, TIMM_VIT
from .student import ExportedStudent
from .target import FRESH_NORM, ExportTarget, Outputs, fresh_norm, unlike_beit, write_safetensors

EPS = 1e-6  # of the norms of timm's BEiT and ViT, without an argument for it


class TimmTarget(ExportTarget):
    """A file for ``timm.create_model(..., checkpoint_path=FILE)``, with one bias table per block for BEiT.

    The final norm becomes timm's ``norm``, with CLS as features (``global_pool='token'``), and that of the
    mean ``fc_norm`` (``'avg'``). A student with neither gets a fresh ``fc_norm``, for the features only.
    """

    library = 'timm'
    suffixes = ('.safetensors', '.pth')

    def check(self, student: ExportedStudent) -> None:
        if not hasattr(student.encoder, 'timm_model'):
            super().check(student)
        elif student.head is not None and not isinstance(_classifier_name(student), str):
            raise ValueError(
                f'timm has no single classifier in {student.encoder.model_name}, as this student has'
            )

    def lacks(self, student: ExportedStudent) -> list[str]:
        return unlike_beit(student, _unlike_timm(student), or_vit=True)

    def write(self, student: ExportedStudent, path: Path) -> None:
        if hasattr(student.encoder, 'timm_model'):  # a TimmStudent: timm's own network and names
            weights = student.encoder.network.state_dict()
            weights |= student.head_weights(f'{_classifier_name(student)}.')
        else:
            student = student.downstream()
            names = TIMM_VIT if student.is_plain else BEIT
            weights = names.from_mmpretrain(student.weights(index=False))
            weights |= student.head_weights('head.') | fresh_norm(student, 'fc_norm')
        if path.suffix == '.safetensors':
            write_safetensors(weights, path, student)
        else:
            torch.save(student.with_grid(weights), path)

    def open(self, student: ExportedStudent, path: Path) -> Outputs:
        name, arguments = name_and_arguments(student)
        model = timm.create_model(name, checkpoint_path=str(path), **arguments)
        return _outputs(model.eval(), student)

    def how_to_open(self, student: ExportedStudent, path: Path) -> str:
        name, given = name_and_arguments(student)
        arguments = ''.join(f', {key}={value!r}' for key, value in given.items())
        code = f'  timm.create_model({name!r}, checkpoint_path={str(path)!r}{arguments})'
        own = student.pooling or hasattr(student.encoder, 'timm_model')
        return code if own else f'{code}\n{FRESH_NORM}'


def _classifier_name(student: ExportedStudent) -> Any:
    """Return where timm keeps the classifier of a TimmStudent's network."""
    return student.encoder.network.pretrained_cfg.get('classifier')


class MicrosoftTarget(ExportTarget):
    """A checkpoint as BEiT's pre-training writes it: ``model``, with the shared table and the mask token.

    It is compared in timm's ``Beit``, which keeps the names of BEiT's programs; those are no package.
    """

    library = "Microsoft's BEiT (as timm's port of it)"
    suffixes = ('.pth',)

    def lacks(self, student: ExportedStudent) -> list[str]:
        return unlike_beit(student, _unlike_timm(student))

    def write(self, student: ExportedStudent, path: Path) -> None:
        weights = BEIT.from_mmpretrain(student.weights()) | student.head_weights('head.')
        torch.save(dict(model=student.with_grid(weights)), path)

    def open(self, student: ExportedStudent, path: Path) -> Outputs:
        model = Beit(**_arguments(student)).eval()
        weights = checkpoint_filter_fn(torch.load(path, map_location='cpu', weights_only=True), model)
        keys = model.load_state_dict(weights, strict=False)
        # A model without a head pools through a fresh `fc_norm`, which only its features would see.
        unknown = set(keys.unexpected_keys) - {'mask_token'}
        missing = {name for name in keys.missing_keys if not name.startswith('fc_norm.')}
        if unknown or missing:
            raise ValueError(f"timm's BEiT misses {sorted(missing)} and does not know {sorted(unknown)}")
        return _outputs(model, student)

    def how_to_open(self, student: ExportedStudent, path: Path) -> str:
        return f"  python run_class_finetuning.py --finetune {path} ...    (in Microsoft's unilm/beit)"


def _unlike_timm(student: ExportedStudent) -> dict[str, Any]:
    """Return which numbers of a student timm's models may not express: reasons, and whether they hold."""
    hidden, width = student.arch['feedforward_channels'], student.arch['embed_dims']
    odd = int(width * (hidden / width)) != hidden
    return {
        f"its norms have eps {student.eps:g}, and timm's {EPS:g}": student.eps != EPS,
        f'its MLP is {hidden} wide, which is no multiple of {width} that timm can express': odd,
    }


def _arguments(student: ExportedStudent) -> dict[str, Any]:
    facts = student.arch
    arguments = dict(
        img_size=student.img_size,
        patch_size=facts['patch_size'],
        in_chans=facts['in_channels'],
        embed_dim=facts['embed_dims'],
        depth=facts['num_layers'],
        num_heads=facts['num_heads'],
        mlp_ratio=facts['feedforward_channels'] / facts['embed_dims'],
        init_values=1e-5 if facts['layer_scale_init_value'] else None,
        num_classes=0 if student.head is None else student.head.out_features,
        global_pool='token' if facts['final_norm'] else 'avg',
    )
    tables = ('use_abs_pos_emb', 'use_rel_pos_bias', 'use_shared_rel_pos_bias')
    own = dict(qkv_bias=facts['bias']) if student.is_plain else {key: facts[key] for key in tables}
    return arguments | own


def name_and_arguments(student: ExportedStudent) -> tuple[str, dict[str, Any]]:
    """Return timm's nearest model, and the arguments in which a student differs from it."""
    if hasattr(student.encoder, 'timm_model'):
        name, arguments = student.encoder.timm_model()
        head = {} if student.head is None else dict(num_classes=student.head.out_features)
        return name, arguments | head
    student = student.downstream()
    plain, size = student.is_plain, 'large' if student.encoder.embed_dims == 1024 else 'base'
    # Entries whose images are normalised with ImageNet's mean, as MVP's are.
    name = f'vit_{size}_patch16_224.mae' if plain else f'beitv2_{size}_patch16_224'
    known: dict[str, Any] = dict(img_size=(224, 224), patch_size=16, in_chans=3, mlp_ratio=4.0, qkv_bias=True)
    large = dict(embed_dim=1024, depth=24, num_heads=16)
    known |= large if size == 'large' else dict(embed_dim=768, depth=12, num_heads=12)
    if plain:
        known |= dict(init_values=None, num_classes=0, global_pool='token')
    else:
        known |= dict(init_values=1e-5, num_classes=1000, global_pool='avg')
        known |= dict(use_abs_pos_emb=False, use_rel_pos_bias=True, use_shared_rel_pos_bias=False)
    return name, {key: value for key, value in _arguments(student).items() if value != known[key]}


def _outputs(model: Any, student: ExportedStudent) -> Outputs:
    def outputs(images: Tensor) -> dict[str, Tensor]:
        if hasattr(student.encoder, 'timm_model'):
            cls, patches, raw = student.encoder.encode_by(model, images)
            outs = {'tokens': patches if cls is None else torch.cat([cls[:, None], patches], dim=1)}
        else:
            raw = model.forward_features(images)
            outs = {'tokens': raw}
        if student.pooling:
            outs['features'] = model.forward_head(raw, pre_logits=True)
        if student.head is not None:
            outs['logits'] = model(images)
        return outs

    return outputs
