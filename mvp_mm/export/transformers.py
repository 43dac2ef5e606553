"""transformers' ``BeitModel``, opened by ``from_pretrained(FOLDER)``."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor

from ..weights.names.transformers import names_to_transformers
from .student import Student, every_other_patch
from .target import FRESH_NORM, ExportTarget, Outputs, pools, unlike_beit


class TransformersTarget(ExportTarget):
    """A folder with weights, config and the images' normalisation.

    A student of pre-training keeps its shared table and its mask token, so ``bool_masked_pos`` works; a
    classifier becomes a ``BeitForImageClassification``, with the names of its classes if the checkpoint or
    the config has them. Pooling is as in :class:`TimmTarget`, a fresh norm of the mean included.
    """

    library = 'transformers'
    suffixes = ()
    packages = ('transformers',)

    def lacks(self, student: Student) -> list[str]:
        lacking = unlike_beit(student)
        rows, cols = student.vit.window
        if rows != cols:
            lacking.append(f'its grid is {rows}x{cols}, and transformers resizes bias tables of squares only')
        return lacking

    def write(self, student: Student, path: Path) -> None:
        state = names_to_transformers(student.vit.state_dict())
        if not pools(student):
            state['pooler.layernorm.weight'] = torch.ones(student.vit.embed_dims)
            state['pooler.layernorm.bias'] = torch.zeros(student.vit.embed_dims)
        if student.head is not None:
            state = {f'beit.{name}': value for name, value in state.items()}
            state |= {f'classifier.{name}': value for name, value in student.head.state_dict().items()}
        path.mkdir()
        _config(student).save_pretrained(path)
        (path / 'preprocessor_config.json').write_text(json.dumps(_preprocessor(student), indent=2) + '\n')
        weights = safetensors.save(state, metadata=dict(format='pt'))
        (path / 'model.safetensors').write_bytes(weights)

    def open(self, student: Student, path: Path) -> Outputs:
        import transformers
        from transformers.utils import logging

        progress_bar = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        model_class = getattr(transformers, _model_name(student))
        model, keys = model_class.from_pretrained(path, output_loading_info=True)
        if progress_bar:
            logging.enable_progress_bar()
        left = {kind: sorted(keys[kind]) for kind in ('missing_keys', 'unexpected_keys') if keys[kind]}
        if left:
            raise ValueError(f'transformers does not take the weights as they are: {left}')
        model.eval()

        def outputs(images: Tensor) -> dict[str, Tensor]:
            backbone = model if student.head is None else model.beit
            out = backbone(images)
            outs = {'tokens': out.last_hidden_state}
            if pools(student):
                outs['features'] = out.pooler_output
            if student.head is not None:
                outs['logits'] = model(images).logits
            if student.vit.mask_token is not None:
                mask = every_other_patch(images, student.vit.patch_size).flatten(1)
                outs['masked tokens'] = backbone(images, bool_masked_pos=mask).last_hidden_state
            return outs

        return outputs

    def how_to_open(self, student: Student, path: Path) -> str:
        code = f'  transformers.{_model_name(student)}.from_pretrained({str(path)!r})'
        return code if pools(student) else f'{code}\n{FRESH_NORM}'


def _model_name(student: Student) -> str:
    return 'BeitModel' if student.head is None else 'BeitForImageClassification'


def _config(student: Student) -> Any:
    from transformers import BeitConfig

    vit = student.vit
    arch = vit.arch_settings
    arguments = dict(
        hidden_size=arch['embed_dims'],
        num_hidden_layers=arch['num_layers'],
        num_attention_heads=arch['num_heads'],
        intermediate_size=arch['feedforward_channels'],
        hidden_act='gelu',
        layer_norm_eps=student.eps,
        image_size=student.img_size[0],
        patch_size=vit.patch_size,
        num_channels=vit.patch_embed.projection.in_channels,
        use_mask_token=vit.mask_token is not None,
        use_absolute_position_embeddings=vit.pos_embed is not None,
        use_relative_position_bias=vit.layers[0].attn.window is not None,
        use_shared_relative_position_bias=vit.rel_pos_bias is not None,
        layer_scale_init_value=0.0 if vit.layers[0].gamma_1 is None else 0.1,
        drop_path_rate=0.0,
        use_mean_pooling=not vit.final_norm,
        architectures=[_model_name(student)],
    )
    if student.classes is not None:
        arguments['id2label'] = dict(enumerate(student.classes))
        arguments['label2id'] = {name: number for number, name in enumerate(student.classes)}
    elif student.head is not None:
        arguments['num_labels'] = student.head.out_features
    return BeitConfig(**arguments)


def _preprocessor(student: Student) -> dict[str, Any]:
    height, width = student.img_size
    return dict(
        image_processor_type='BeitImageProcessor',
        do_resize=True,
        size=dict(height=height, width=width),
        resample=3,  # bicubic
        do_center_crop=False,
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=list(student.mean),
        image_std=list(student.std),
        do_reduce_labels=False,
    )
