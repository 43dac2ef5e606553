"""Targets from a timm network: DINO (paper Table 5), DINOv2, DINOv3, SigLIP 2, Swin, ConvNeXt and others."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import timm
import torch
from mmengine.logging import print_log
from mmpretrain.registry import MODELS
from timm.layers import QuickGELU
from torch import Tensor, nn

from ...weights.locate import weights_in
from ...weights.read import first_line, read_tensors
from ..compilation import require_choice
from .base import CLS_TARGETS, Grid, TargetGenerator, network_errors
from .teacher_weights import (
    LOCAL,
    Statistics,
    fill_strictly,
    local_weights,
    no_repository,
    no_weights,
    random_weights,
    read_json,
    unknown_model,
    warn_of_other_statistics,
)
from .timm_tokens import TimmTokens

CONFIG_NAME = 'config.json'
# timm's and the hub's file names, best first
WEIGHT_NAMES = ('model.safetensors', 'pytorch_model.bin', 'pytorch_model.pth', 'model.pth')
HUB = ('hf-hub:', 'hf_hub:')
QUICK_GELU_NOTE = 'natively QuickGELU'  # timm's own note of a weight tag
# open_clip lists these weights with QuickGELU; timm's note is missing.
QUICK_GELU_TAGS = ('vit_base_patch16_clip_224.dfn2b',)


@MODELS.register_module()
class TimmTargetGenerator(TargetGenerator):
    """Tokens of the last layer, or the last map, of any timm network that has one.

    There is no language space here, so nothing is projected (paper Table 5). Tokens are
    ``forward_features``' and pass the final norm also where it is ``fc_norm``; those of hierarchical and
    convolutional networks are the map that they pool. Register tokens are left out.

    Args:
        model_name: timm name, with or without a weight tag, folder with timm's ``config.json`` and weights
            (also ``local-dir:PATH``), or ``hf-hub:owner/name``. Default Table 5's.
        pretrained: True (default) for timm's weights of that name, path of a weight file, or None for random
            weights (logs a warning).
        cache_dir: Where downloads go. Default None: timm's own cache.
        model_args: More arguments for timm's ``create_model``, for a non-standard network. Default None.
        quick_gelu: Whether a local weight file's model was trained with QuickGELU, unless the tag in
            ``model_name`` or a ``config.json`` beside the file says so, or timm has one activation only.
        teacher_mean, teacher_std: Channel statistics of the teacher's training images, 0–1 scale. Default
            None: those of timm's weight tag, or of ``config.json`` beside a weight file.
        cls: What the target of CLS is: ``'token'``, the CLS token; ``'pooled'``, what the network pools for
            its classifier (``forward_head(..., pre_logits=True)``); ``'none'``; or ``'auto'`` (default): the
            first of these that the network has in the width of its tokens.
        **kwargs: See :class:`TargetGenerator`.

    Raises:
        ValueError: If the model or its tag is unknown, it has no map of tokens or not that ``cls`` (before
            any download of weights), the use of QuickGELU is unknown, or a weight file does not fit.
        FileNotFoundError: If the weights cannot be found or downloaded.
    """

    def __init__(
        self,
        model_name: str = 'vit_base_patch16_224.dino',
        pretrained: bool | str | None = True,
        cache_dir: str | None = None,
        model_args: dict | None = None,
        quick_gelu: bool | None = None,
        teacher_mean: Sequence[float] | None = None,
        teacher_std: Sequence[float] | None = None,
        cls: str = 'auto',
        **kwargs,
    ) -> None:
        require_choice(cls, 'cls', ('auto', *CLS_TARGETS))
        source = _TimmSource(str(model_name), cache_dir, dict(model_args or {}))
        cls = source.reader.choose_cls(cls, str(model_name))
        self._given = dict(model_name=str(model_name), pretrained=pretrained)
        file = source.find_weights(pretrained)
        if teacher_mean is None or teacher_std is None:
            mean, std = source.statistics(file)
            teacher_mean = mean if teacher_mean is None else teacher_mean
            teacher_std = std if teacher_std is None else teacher_std
        source.choose_activation(file, quick_gelu)
        teacher: Any
        if pretrained is None:
            with random_weights(source.name, 'True'):
                teacher = source.create()
        else:
            teacher = source.create(pretrained=file is None)
        if file is not None:
            weights = read_tensors(file)
            # The family's own translation of older and original formats.
            if translate := getattr(sys.modules[type(teacher).__module__], 'checkpoint_filter_fn', None):
                weights = translate(weights, teacher)
            # timm itself would leave missing entries random.
            fill_strictly(teacher.state_dict(), weights, file, source.name, required='blocks.')
        self._reader = source.reader.settled(teacher)
        super().__init__(
            teacher=teacher,
            teacher_patch_size=self._reader.patch_size,
            teacher_image_size=self._reader.image_size,
            teacher_mean=teacher_mean,
            teacher_std=teacher_std,
            can_resize_input=self._reader.can_resize,
            cls=cls,
            **kwargs,
        )

    def encode(self, teacher: nn.Module, images: Tensor, grid: Grid) -> Tensor:
        """Return the target of CLS, if there is one, and the tokens of patches."""
        return self._reader.encode(teacher, images, self.cls)

    def attention_module(self, teacher: nn.Module) -> nn.Module | None:
        if not self._reader.has_cls:
            return None
        for name in ('cls_attn_blocks', 'blocks_token_only', 'blocks'):  # XCiT's, CaiT's, everyone's
            if layers := getattr(teacher, name, None):
                return getattr(layers[-1], 'attn', None)
        return None

    def blocks(self, teacher: nn.Module) -> nn.ModuleList | list:
        return list(getattr(teacher, 'blocks', []))


def timm_width(model_name: str, pretrained: bool | str | None = True) -> int:
    """Return the width of a :class:`TimmTargetGenerator`'s targets without reading its weights.

    Arguments and errors are those of the class; a weight file must exist.
    """
    source = _TimmSource(model_name, None, {})
    source.find_weights(pretrained)
    return source.reader.width


def timm_reader(model_name: str) -> TimmTokens:
    """Tell how a timm model's tokens are read, without its weights; errors are those of the class."""
    return _TimmSource(model_name, None, {}).reader


class _TimmSource:
    """A timm model that can serve as a teacher, and where it comes from; arguments as for the generator."""

    def __init__(self, model_name: str, cache_dir: str | None, model_args: dict[str, Any]) -> None:
        if model_name in ('', LOCAL, *HUB):
            raise ValueError(f'model_name={model_name!r} names no model')
        self.name, self.cache_dir, self.model_args = model_name, cache_dir, model_args
        self.folder: Path | None = None
        self.is_hub = model_name.startswith(HUB)
        path = Path(model_name.removeprefix(LOCAL)).expanduser()
        architecture, _, tag = model_name.partition('.')
        if model_name.startswith(LOCAL) or (path.is_dir() and not timm.is_model(architecture)):
            self.folder, self.name = path, f'{LOCAL}{path}'
            if not (path / CONFIG_NAME).is_file():
                raise FileNotFoundError(f'{path} holds no {CONFIG_NAME} of timm, which a saved model has')
        elif not self.is_hub and not timm.is_model(architecture):
            raise unknown_model('timm', model_name, timm.list_models(), CONFIG_NAME)
        elif not self.is_hub and tag and not timm.is_model_pretrained(model_name):
            tags = ', '.join(timm.list_pretrained(f'{architecture}.*'))
            raise ValueError(f'timm lists no weights {model_name!r}; it has: {tags or "none"}')
        with torch.device('meta'):
            network: Any = self.create().eval()
        advice = '; expected a network with a map of tokens, such as vit_base_patch16_224.dino'
        with network_errors(f'{model_name} cannot serve as a teacher: ', advice):
            own = getattr(getattr(network, 'patch_embed', None), 'img_size', None)
            self.reader = TimmTokens.of(network, own or network.pretrained_cfg['input_size'][-2:])
        self.config: dict[str, Any] = network.pretrained_cfg
        self.architecture: str = self.config['architecture']
        self.has_quick_gelu = any(isinstance(module, QuickGELU) for module in network.modules())
        # timm fills in a default tag; only a tag given by name says what a file holds.
        named = self.folder is None and not self.is_hub
        self.tag: str = tag if named else self.config.get('tag') or ''

    def create(self, pretrained: bool = False) -> nn.Module:
        """Create the network, with timm's weights if ``pretrained``."""
        arguments = dict(num_classes=0, pretrained=pretrained, cache_dir=self.cache_dir, **self.model_args)
        try:
            with suppress(TypeError):  # a family that runs at its own size only; nothing is loaded yet
                return timm.create_model(self.name, dynamic_img_size=True, **arguments)
            return timm.create_model(self.name, **arguments)
        except Exception as error:  # an unknown config or a download makes timm raise anything
            if self.folder is not None or not (pretrained or isinstance(error, OSError)):
                raise ValueError(f'timm cannot build {self.name}: {first_line(error)}') from error
            if self.is_hub:
                raise no_repository(self.name, f'timm:{LOCAL}FOLDER', error) from error
            config = timm.get_pretrained_cfg(self.name)
            places = config and (config.hf_hub_id or config.url)
            raise no_weights(f'of {self.name}', '', places, error) from error

    def find_weights(self, pretrained: bool | str | None) -> Path | None:
        """Return the local weight file, or None if there is none to read here."""
        if pretrained is None or pretrained is True:
            return weights_in(self.folder, WEIGHT_NAMES) if pretrained and self.folder else None
        if path := local_weights(str(pretrained), WEIGHT_NAMES):
            return path
        raise FileNotFoundError(
            f'pretrained={pretrained!r} is no existing weight file; give True for the weights that timm '
            f'lists for {self.name}, or the path of a file'
        )

    def statistics(self, file: Path | None) -> Statistics:
        """Find mean and std of the images that the weights were trained on, 0–1 scale."""
        taken = (tuple(self.config['mean']), tuple(self.config['std']))
        if file is None or self.tag or self.folder or 'pretrained_cfg_overlay' in self.model_args:
            return taken
        beside = _config_beside(file)
        if 'mean' in beside and 'std' in beside:
            return beside['mean'], beside['std']
        tags = timm.list_pretrained(f'{self.architecture}.*')
        configs = {tag: config.to_dict() for tag in tags if (config := timm.get_pretrained_cfg(tag))}
        warn_of_other_statistics(file, self.name, taken, configs)
        return taken

    def choose_activation(self, file: Path | None, quick_gelu: bool | None) -> None:
        """Build with QuickGELU if the weights were trained with it, which they themselves do not show."""
        if 'act_layer' in self.model_args or (self.has_quick_gelu and quick_gelu is None):
            return
        trained: str | None = None
        if self.tag or file is None:
            trained = f'{self.architecture}.{self.tag or self.config.get("tag")}'
        elif beside := _config_beside(file):
            trained = f'{beside["architecture"]}.{beside.get("tag") or ""}'
        twin = self.architecture.replace('_clip_', '_clip_quickgelu_')
        if quick_gelu is None and trained is None and timm.is_model(twin) and twin != self.architecture:
            tags = ', '.join(timm.list_pretrained(f'{self.architecture}.*'))
            raise ValueError(
                f'{file} does not tell whether its {self.architecture} was trained with QuickGELU: give '
                f'model_name={twin!r} (OpenAI, DFN, MetaCLIP weights) or model.target_generator.'
                f'quick_gelu=False (most LAION and DataComp weights), or the tag of the weights: {tags}'
            )
        wanted = _trained_with_quick_gelu(trained) if quick_gelu is None else quick_gelu
        if wanted != self.has_quick_gelu:
            self.model_args['act_layer'] = 'quick_gelu' if wanted else 'gelu'
            who = f'the weights {trained}' if quick_gelu is None else 'model.target_generator.quick_gelu'
            print_log(f'{self.name}: {self.model_args["act_layer"]} follows from {who}', logger='current')


def _trained_with_quick_gelu(name: str | None) -> bool:
    if name is None or '_quickgelu_' in name or name in QUICK_GELU_TAGS:
        return name is not None
    config = timm.get_pretrained_cfg(name) if timm.is_model_pretrained(name) else None
    return config is not None and any(QUICK_GELU_NOTE in note for note in config.notes or ())


def _config_beside(file: Path) -> dict[str, Any]:
    """Read what timm's ``config.json`` in the folder of a weight file says about the weights, if any."""
    path = file.parent / CONFIG_NAME
    config = read_json(path) if path.is_file() else None
    if not isinstance(config, dict) or 'architecture' not in config:
        return {}
    return {'architecture': config['architecture'], **config.get('pretrained_cfg', config)}
