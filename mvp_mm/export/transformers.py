"""transformers' ``BeitModel`` and ``ViTModel``, opened by ``from_pretrained(FOLDER)``."""

from pathlib import Path
from typing import Any

from torch import Tensor

from ..weights.fit_positions import times
from ..weights.names.transformers import names_to_transformers
from .student import ExportedStudent, every_other_patch
from .target import FRESH_NORM, ExportTarget, Outputs, fresh_norm, unlike_beit, write_safetensors


class TransformersTarget(ExportTarget):
    """A folder with weights, config and the images' normalisation.

    A pre-trained BEiT keeps its shared table and its mask token, so ``bool_masked_pos`` works. A classifier
    becomes a ``...ForImageClassification``, with the names of its classes if the checkpoint or the config has
    them. BEiT's pooling is as in :class:`TimmTarget`.
    """

    library = 'transformers'
    suffixes = ()
    packages = ('transformers',)

    def lacks(self, student: ExportedStudent) -> list[str]:
        plain, grid, scale = student.is_plain, student.grid, student.arch['layer_scale_init_value']
        oblong, no_norm = not plain and grid[0] != grid[1], plain and student.pooling != 'token'
        own = {
            f'its grid is {times(grid)}, and transformers resizes bias tables of squares only': oblong,
            "it has no final norm of its tokens, which transformers' ViT always has": no_norm,
            "it has layer scale, for which transformers' ViT has no place": plain and scale,
        }
        return unlike_beit(student, own, or_vit=True)

    def write(self, student: ExportedStudent, path: Path) -> None:
        import transformers

        student = student.downstream() if student.is_plain else student
        weights = names_to_transformers(student.weights()) | fresh_norm(student, 'pooler.layernorm')
        family, name, _ = _names(student)
        inside = '' if student.head is None else f'{family.lower()}.'
        weights = {f'{inside}{name}': value for name, value in weights.items()}
        weights |= student.head_weights('classifier.')
        path.mkdir()
        config = getattr(transformers, f'{family}Config')(architectures=[name], **_config(student))
        config.save_pretrained(path)
        height, width = student.img_size
        getattr(transformers, f'{family}ImageProcessor')(
            size=dict(height=height, width=width),
            resample=3,  # bicubic
            do_center_crop=False,
            image_mean=list(student.mean),
            image_std=list(student.std),
        ).save_pretrained(path)
        write_safetensors(weights, path / 'model.safetensors', student)

    def open(self, student: ExportedStudent, path: Path) -> Outputs:
        import transformers
        from transformers.utils import logging

        progress_bar = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        _, name, arguments = _names(student)
        model_class = getattr(transformers, name)
        try:
            model, keys = model_class.from_pretrained(path, output_loading_info=True, **arguments)
        finally:
            if progress_bar:
                logging.enable_progress_bar()
        left = {kind: sorted(keys[kind]) for kind in ('missing_keys', 'unexpected_keys') if keys[kind]}
        if left:
            raise ValueError(f'transformers does not take the weights as they are: {left}')
        model.eval()
        backbone = model if student.head is None else model.base_model

        def outputs(images: Tensor) -> dict[str, Tensor]:
            out = backbone(images)
            outs = {'tokens': out.last_hidden_state}
            if student.pooling:
                pooled = out.pooler_output
                outs['features'] = out.last_hidden_state[:, 0] if pooled is None else pooled
            if student.head is not None:
                outs['logits'] = model(images).logits
            if student.arch['with_mask_token'] and not student.is_plain:
                mask = every_other_patch(images, student.encoder.patch_size).flatten(1)
                outs['masked tokens'] = backbone(images, bool_masked_pos=mask).last_hidden_state
            return outs

        return outputs

    def how_to_open(self, student: ExportedStudent, path: Path) -> str:
        _, name, arguments = _names(student)
        given = ''.join(f', {key}={value!r}' for key, value in arguments.items())
        code = f'  transformers.{name}.from_pretrained({str(path)!r}{given})'
        return code if student.pooling else f'{code}\n{FRESH_NORM}'


def _names(student: ExportedStudent) -> tuple[str, str, dict[str, bool]]:
    """Return the family and the class that a student becomes, and the arguments of ``from_pretrained``."""
    family = 'ViT' if student.is_plain else 'Beit'
    if student.head is not None:
        return family, f'{family}ForImageClassification', {}
    return family, f'{family}Model', dict(add_pooling_layer=False) if student.is_plain else {}


def _config(student: ExportedStudent) -> dict[str, Any]:
    facts = student.arch
    arguments: dict[str, Any] = dict(
        hidden_size=facts['embed_dims'],
        num_hidden_layers=facts['num_layers'],
        num_attention_heads=facts['num_heads'],
        intermediate_size=facts['feedforward_channels'],
        hidden_act='gelu',
        layer_norm_eps=student.eps,
        image_size=student.img_size if student.is_plain else student.img_size[0],
        patch_size=facts['patch_size'],
        num_channels=facts['in_channels'],
    )
    if student.is_plain:
        arguments['qkv_bias'] = facts['bias']
    else:
        arguments |= dict(
            use_mask_token=facts['with_mask_token'],
            use_absolute_position_embeddings=facts['use_abs_pos_emb'],
            use_relative_position_bias=facts['use_rel_pos_bias'],
            use_shared_relative_position_bias=facts['use_shared_rel_pos_bias'],
            layer_scale_init_value=facts['layer_scale_init_value'],
            drop_path_rate=0.0,
            use_mean_pooling=not facts['final_norm'],
        )
    if student.classes is not None:
        arguments['id2label'] = dict(enumerate(student.classes))
        arguments['label2id'] = {name: number for number, name in enumerate(student.classes)}
    elif student.head is not None:
        arguments['num_labels'] = student.head.out_features
    return arguments
