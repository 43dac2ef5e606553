"""Targets from a timm vision transformer: DINO (paper Table 5), DINOv2, DINOv3, MAE and others."""

import difflib
import sys
from pathlib import Path

import timm
import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..tensor_files import first_line, read_tensors
from .base import Grid, TargetGenerator
from .weight_files import require_fit, same_random_weights, warn_of_random_weights


@MODELS.register_module()
class TimmTargetGenerator(TargetGenerator):
    """Normalised last-layer tokens of any timm vision transformer with a CLS token.

    There is no language space here, so nothing is projected (paper Table 5). Register tokens are left
    out.

    Args:
        model_name: timm name, with or without a weight tag. Default ``'vit_base_patch16_224.dino'``
            (Table 5).
        pretrained: True (default) for timm's weights of that name, the path of a weight file, or None
            for random weights (tests and benchmarks only; a warning is logged).
        cache_dir: Where downloads go. Default None: timm's own cache.
        model_args: Further arguments of timm's ``create_model``, such as ``img_size``, ``patch_size``,
            ``embed_dim``, ``depth``, for a network that is no standard one. Default None.
        **kwargs: ``patch_size``, ``grid_matching``, ``dtype``, ``student_mean``, ``student_std``: see
            :class:`TargetGenerator`.

    Raises:
        ValueError: If the model or its tag is unknown, it has no CLS or no patch tokens, or a weight
            file does not fit it.
        FileNotFoundError: If the weights cannot be had.
    """

    def __init__(
        self,
        model_name: str = 'vit_base_patch16_224.dino',
        pretrained: bool | str | None = True,
        cache_dir: str | None = None,
        model_args: dict | None = None,
        **kwargs,
    ) -> None:
        teacher = _load_timm(model_name, pretrained, cache_dir, model_args or {})
        self._check_tokens(teacher, model_name)
        config = teacher.pretrained_cfg
        super().__init__(
            teacher=teacher,
            teacher_patch_size=teacher.patch_embed.feat_ratio(),
            teacher_image_size=teacher.patch_embed.img_size or config['input_size'][-2:],
            teacher_mean=config['mean'],
            teacher_std=config['std'],
            can_resize_input=getattr(teacher, 'dynamic_img_size', False),
            **kwargs,
        )

    @staticmethod
    def _check_tokens(teacher: nn.Module, model_name: str) -> None:
        has_patches = hasattr(teacher, 'patch_embed') and hasattr(teacher, 'num_prefix_tokens')
        if not has_patches or getattr(teacher, 'cls_token', None) is None:
            raise ValueError(
                f'{model_name} has no {"CLS token" if has_patches else "patch tokens"} to learn from '
                f'(it is a {type(teacher).__name__}): use a vision transformer with a CLS token, such '
                'as vit_base_patch16_224.dino'
            )

    def encode(self, teacher: nn.Module, images: Tensor, grid: Grid) -> Tensor:
        """``(B, 1 + h * w, D)``: CLS and patch tokens after the final norm."""
        tokens = teacher.forward_features(images)
        # Networks that pool before they norm keep the final norm in fc_norm.
        tokens = teacher.fc_norm(tokens) if isinstance(teacher.norm, nn.Identity) else tokens
        return torch.cat([tokens[:, :1], tokens[:, teacher.num_prefix_tokens :]], dim=1)

    def attention_module(self, teacher: nn.Module) -> nn.Module | None:
        """The attention of the last layer, where timm's network has blocks with one."""
        blocks = self.blocks(teacher)
        return getattr(blocks[-1], 'attn', None) if blocks else None

    def blocks(self, teacher: nn.Module) -> nn.ModuleList | list:
        """The layers, which :class:`TargetGenerator` may compile."""
        return getattr(teacher, 'blocks', [])


def _load_timm(
    model_name: str, pretrained: bool | str | None, cache_dir: str | None, model_args: dict
) -> nn.Module:
    architecture = model_name.split('.')[0]
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=4, cutoff=0.5)
        hint = f'did you mean {", ".join(close)}?' if close else 'see timm.list_models().'
        raise ValueError(f'timm knows no model {model_name!r}; {hint}')
    tag = model_name.partition('.')[2]
    if tag and not timm.is_model_pretrained(model_name):
        tags = ', '.join(timm.list_pretrained(f'{architecture}.*'))
        raise ValueError(f'timm lists no weights {model_name!r}; it has: {tags or "none"}')
    if pretrained is None:
        warn_of_random_weights(model_name, 'True')
        with same_random_weights():
            return _created(model_name, pretrained=False, **model_args)
    if pretrained is True:
        return _downloaded(model_name, cache_dir, model_args)
    path = Path(str(pretrained)).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f'pretrained={pretrained!r} is no existing weight file; give True for the weights that timm '
            f'lists for {model_name}, or the path of a file'
        )
    teacher = _created(model_name, pretrained=False, **model_args)
    _load_strictly(teacher, path, model_name)
    return teacher


def _load_strictly(teacher: nn.Module, path: Path, model_name: str) -> None:
    """Fill every parameter from the file; timm itself would leave missing ones random."""
    weights = read_tensors(path)
    # The family's own translation of older and original formats.
    translate = getattr(sys.modules[type(teacher).__module__], 'checkpoint_filter_fn', None)
    if translate is not None:
        weights = translate(weights, teacher)
    own = teacher.state_dict()
    require_fit(weights, own, path, model_name)
    deeper = next((key for key in weights if key.startswith('blocks.') and key not in own), None)
    if deeper is not None:
        raise ValueError(f'{path} does not fit {model_name}, which has no {deeper}')
    teacher.load_state_dict({key: weights[key] for key in own})


def _created(model_name: str, **kwargs) -> nn.Module:
    try:
        return timm.create_model(model_name, num_classes=0, dynamic_img_size=True, **kwargs)
    except TypeError:  # a family that runs at its own size only; raised before anything is loaded
        return timm.create_model(model_name, num_classes=0, **kwargs)


def _downloaded(model_name: str, cache_dir: str | None, model_args: dict) -> nn.Module:
    try:
        return _created(model_name, pretrained=True, cache_dir=cache_dir, **model_args)
    except (OSError, RuntimeError) as error:
        config = timm.get_pretrained_cfg(model_name)
        source = None if config is None else config.hf_hub_id or config.url
        raise FileNotFoundError(
            f'the weights of {model_name} could not be had. Without a network, copy the file to this machine '
            'and give model.target_generator.pretrained=FILE; for a test with random weights give '
            f'model.target_generator.pretrained=None. Tried the local cache, then {source}: '
            f'{first_line(error)}.'
        ) from None
