"""Targets from a vision tower of transformers: RADIO, TIPS, DINOv3, AIMv2, SigLIP 2, CLIP and others."""

import importlib
import inspect
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmpretrain.registry import MODELS
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from ...weights.fit_positions import times
from ...weights.read import first_few, first_line
from ..compilation import require_choice
from .base import CLS_TARGETS, Grid, TargetGenerator, choose_cls, network_errors, random_image
from .teacher_weights import HUB, LOCAL, Statistics, no_repository, random_weights
from .timm_tokens import same_but_for_order

CONFIG_NAME = 'config.json'
DEFAULT_SIZE = 224  # of convolutional networks, whose config tells none
IMAGES = 'pixel_values'
UNCHANGED: Statistics = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@MODELS.register_module()
class TransformersTargetGenerator(TargetGenerator):
    """Tokens ``last_hidden_state`` of any vision tower of transformers that has a map of them.

    The tower is the model itself, or the part of an image-text model that its ``vision_config`` describes.
    Register tokens are left out.

    Args:
        model_name: Folder with transformers' ``config.json`` and weights (also ``local-dir:PATH``), or
            ``owner/name`` on the hub (also ``hf-hub:owner/name``).
        pretrained: True (default) for the model's weights, or None for random ones (logs a warning).
        space: ``'hidden'`` (default): ``last_hidden_state`` as it is; CLIP's is before its last norm.
            ``'joint'``: after the norm and the projection, for a CLIP whose image embedding is its CLS token.
        trust_remote_code: Whether Python code that comes with the weights is run. Default False.
        revision: Branch, tag or commit on the hub. Default None: main.
        cache_dir: Where downloads go. Default None: the hub's own cache.
        teacher_mean, teacher_std: Channel statistics of the teacher's training images, 0–1 scale. Default
            None: those of ``preprocessor_config.json``; without one the model family's, with a warning.
        cls: What the target of CLS is: ``'token'``; ``'pooled'``, ``pooler_output``; ``'none'``; or
            ``'auto'`` (default): the first of these that the network has in the width of its tokens.
        **kwargs: See :class:`TargetGenerator`.

    Raises:
        ValueError: If transformers cannot build the model without code from elsewhere, it has no map of
            tokens or not that ``cls`` or ``space``, or the weights do not fit.
        FileNotFoundError: If the folder, or the repository on the hub, cannot be had.
    """

    def __init__(
        self,
        model_name: str,
        pretrained: bool | None = True,
        space: str = 'hidden',
        trust_remote_code: bool = False,
        revision: str | None = None,
        cache_dir: str | None = None,
        teacher_mean: Sequence[float] | None = None,
        teacher_std: Sequence[float] | None = None,
        cls: str = 'auto',
        **kwargs,
    ) -> None:
        require_choice(cls, 'cls', ('auto', *CLS_TARGETS))
        require_choice(space, 'space', ('hidden', 'joint'))
        if pretrained not in (True, None):
            raise ValueError(f'pretrained={pretrained!r}: give the folder of the weights as model_name')
        source = _Source(str(model_name), trust_remote_code, revision, cache_dir)
        self.reader = reader = source.reader
        self.space = space
        self._given = dict(model_name=str(model_name), pretrained=pretrained, space=space, revision=revision)
        tower = source.load(bool(pretrained))
        if reader.permuted(tower):
            raise ValueError(
                f'{model_name} cannot serve as a teacher: its tokens come in a random or unknown order'
            )
        choices = [choice for choice in reader.choices if choice != 'pooled' or tower.pools]
        if space == 'joint':
            choices = tower.joint_choices(reader, str(model_name))
        cls = choose_cls(cls, choices, str(model_name))
        mean, std = source.statistics()
        super().__init__(
            teacher=tower,
            teacher_patch_size=reader.patch_size,
            teacher_image_size=reader.image_size,
            teacher_mean=mean if teacher_mean is None else teacher_mean,
            teacher_std=std if teacher_std is None else teacher_std,
            can_resize_input=reader.can_resize,
            cls=cls,
            **kwargs,
        )

    def encode(self, teacher: nn.Module, images: Tensor, grid: Grid) -> Tensor:
        """Return the target of CLS, if there is one, and the tokens of patches."""
        tokens, pooled = teacher(images)
        patches = tokens[:, self.reader.prefix :]
        extra = {'token': tokens[:, :1], 'none': tokens[:, :0]}.get(self.cls)
        tokens = torch.cat([pooled[:, None] if extra is None else extra, patches], dim=1)
        tower: Any = teacher
        return tower.project(tokens) if self.space == 'joint' else tokens


def transformers_width(model_name: str) -> int:
    """Return the width of a :class:`TransformersTargetGenerator`'s targets without reading its weights."""
    return _Source(model_name, False, None, None).reader.width


class _Tower(nn.Module):
    """A vision tower, and the projection, if any, of the image-text model that it is part of."""

    def __init__(self, network: Any, projection: Any) -> None:
        super().__init__()
        self.network, self.projection = network, projection
        self.takes = set(inspect.signature(network.forward).parameters)
        self.pools = True

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return ``last_hidden_state`` ``(B, L, C)``, of a map row by row, and ``pooler_output``, if any."""
        inputs: dict[str, Any] = {IMAGES: images}
        if 'interpolate_pos_encoding' in self.takes:
            inputs['interpolate_pos_encoding'] = True
        if 'spatial_shapes' in self.takes:
            inputs = _patches_of(images, self.network.config.patch_size)
        outputs = self.network(**inputs)
        last = getattr(outputs, 'last_hidden_state', None)
        if not isinstance(last, Tensor):
            raise ValueError(f'it returns a {type(outputs).__name__} without last_hidden_state')
        last = last.flatten(2).transpose(1, 2) if last.ndim == 4 else last
        pooled = getattr(outputs, 'pooler_output', None)
        return last, None if pooled is None else pooled.flatten(1)

    def project(self, tokens: Tensor) -> Tensor:
        """Take tokens of ``last_hidden_state`` into the joint space."""
        return self.projection(self.network.post_layernorm(tokens))

    @torch.no_grad()
    def joint_choices(self, reader: 'TransformersTokens', name: str) -> list[str]:
        """Return what CLS can be in the joint space; ValueError if patches do not live there."""
        if self.projection is not None and hasattr(self.network, 'post_layernorm') and reader.has_cls:
            tokens, pooled = self(random_image(reader.image_size, self))
            embedding = self.projection(pooled) if pooled is not None else None
            if embedding is not None and torch.allclose(self.project(tokens[:, 0]), embedding, atol=1e-4):
                return ['token', 'none']
        raise ValueError(
            f'{name} has no projection from single tokens to the joint space: its image embedding is none of '
            "its tokens; use space='hidden'"
        )


class TransformersTokens:
    """Where the tokens of patches are in a tower's output."""

    def __init__(self, tower: _Tower, image_size: Grid, name: str) -> None:
        self.image_size = image_size
        with network_errors(f'{name} cannot serve as a teacher: '):
            tokens, pooled = tower(random_image(image_size, tower))
            count, self.width = tokens.shape[1:]
            found = self._by_resizing(tower, count)
            self.can_resize = found is not None
            grid, self.prefix = found or self._by_patches(count, tower.network.config)
        self.patch_size = image_size[0] // grid[0]
        named = [key.rpartition('.')[2] for key, _ in tower.network.named_parameters()]
        self.has_cls = self.prefix > 0 and any('cls' in key or 'class_embedding' in key for key in named)
        fits = pooled is not None and pooled.shape[-1] == self.width
        self.choices = [*(['token'] if self.has_cls else []), *(['pooled'] if fits else []), 'none']

    def _by_resizing(self, tower: _Tower, count: int) -> tuple[Grid, int] | None:
        """An image twice as wide has twice the patches, and as many other tokens."""
        height, width = self.image_size
        try:
            wide = tower(random_image((height, 2 * width), tower))[0].shape[1]
        except Exception:  # an unknown network may raise anything: it runs at its own size only
            return None
        patches = wide - count
        side = math.isqrt(max(patches, 0))
        if side == 0 or side * side != patches or patches > count or height % side:
            return None
        return (side, side), count - patches

    def _by_patches(self, count: int, config: Any) -> tuple[Grid, int]:
        patch = getattr(config, 'patch_size', None) or getattr(config, 'patch_stride', [4])
        patch = int(patch[0] if isinstance(patch, Sequence) else patch)
        grid = (self.image_size[0] // patch, self.image_size[1] // patch)
        if grid[0] * grid[1] <= count:
            return grid, count - grid[0] * grid[1]
        for size in (patch * 2**stage for stage in range(1, 5)):  # of a hierarchical network, rounded up
            grid = (-(-self.image_size[0] // size), -(-self.image_size[1] // size))
            if grid[0] * grid[1] == count:
                return grid, 0
        raise ValueError(f'it returns {count} tokens for {times(self.image_size)} pixels: no map of patches')

    @torch.no_grad()
    def permuted(self, tower: _Tower) -> bool:
        """Whether tokens differ from run to run, or are those of the map in another order than its rows."""
        image = random_image(self.image_size, tower)
        tokens, _ = tower(image)
        if not torch.equal(tokens, tower(image)[0]):
            return True
        try:
            outputs = tower.network(**{IMAGES: image}, output_hidden_states=True)
        except Exception:  # an unknown network may raise anything: it tells no map
            return False
        maps = getattr(outputs, 'reshaped_hidden_states', None)
        if not maps or maps[-1].ndim != 4:
            return False
        last = maps[-1] if maps[-1].shape[-1] == self.width else maps[-1].permute(0, 2, 3, 1)
        return same_but_for_order(last.flatten(1, 2)[0], tokens[0, self.prefix :])


class _Source:
    """A model of transformers, and where it comes from; arguments as for the generator."""

    def __init__(self, name: str, trust: bool, revision: str | None, cache_dir: str | None) -> None:
        place = name.removeprefix(LOCAL).removeprefix(HUB)
        path = Path(place).expanduser()
        if not place:
            raise ValueError(f'model_name={name!r} names no model')
        if name.startswith(LOCAL) or path.is_dir():
            if not (path / CONFIG_NAME).is_file():
                raise FileNotFoundError(f'{path} holds no {CONFIG_NAME} of transformers')
            place = str(path)
        elif place.count('/') != 1 or not all(place.split('/')):
            raise FileNotFoundError(f'{place} is neither a folder nor owner/name on the hub')
        self.name, self.place = name, place
        self.options = dict(trust_remote_code=trust, revision=revision or 'main', cache_dir=cache_dir)
        try:
            self.library: Any = importlib.import_module('transformers')
        except ImportError as error:
            raise ImportError('a teacher of transformers needs: pip install "mvp_mm[export]"') from error
        with self._errors():
            self.config: Any = self.library.AutoConfig.from_pretrained(place, **self.options)
        with torch.device('meta'):
            tower = self._tower(self._random())
        self.vision = tower.network.config
        self.reader = TransformersTokens(tower, self._size(), name)

    def _random(self) -> Any:
        with self._errors():
            trust = self.options['trust_remote_code']
            return self.library.AutoModel.from_config(self.config, trust_remote_code=trust)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # transformers raises anything for an unknown model
            if 'trust_remote_code' in str(error):
                raise ValueError(
                    f'{self.name} needs Python code that comes with its weights, which is not run unless '
                    'model.target_generator.trust_remote_code=True'
                ) from error
            if isinstance(error, OSError) and not Path(self.place).is_dir():
                raise no_repository(self.name, f'transformers:{LOCAL}FOLDER', error) from error
            raise ValueError(f'transformers cannot load {self.name}: {first_line(error)}') from error

    def _tower(self, whole: Any) -> _Tower:
        """Return the part of a model that takes images."""
        kind = type(getattr(whole.config, 'vision_config', None) or whole.config)
        for module in whole.modules():
            of_kind = isinstance(getattr(module, 'config', None), kind) and hasattr(module, 'main_input_name')
            if of_kind and IMAGES in inspect.signature(module.forward).parameters:
                return _Tower(module, getattr(whole, 'visual_projection', None)).eval()
        raise ValueError(f'{self.name} is a {type(whole).__name__}, which has no vision tower')

    def load(self, pretrained: bool) -> _Tower:
        """Build the tower in float32, with its weights if ``pretrained``."""
        if not pretrained:
            with random_weights(self.name, 'True'):
                return self._tower(self._random().float())
        options = dict(self.options, output_loading_info=True, dtype=torch.float32)
        with self._errors():
            whole, info = self.library.AutoModel.from_pretrained(self.place, **options)
        tower = self._tower(whole)
        self._require_weights(whole, tower, info)
        return tower

    @torch.no_grad()
    def _require_weights(self, whole: Any, tower: _Tower, info: Any) -> None:
        """Require that no token is made by a weight that the file does not hold."""
        wrong = [*info['missing_keys'], *(key for key, *_ in info.get('mismatched_keys') or ())]
        known = dict(whole.named_parameters())
        missing = {key: known[key] for key in map(str, wrong) if key in known}
        kept = {key: value.clone() for key, value in missing.items()}
        for value in missing.values():
            value.fill_(torch.nan)
        tokens, pooled = tower(random_image(self.reader.image_size, tower))
        if not tokens.isfinite().all():
            raise ValueError(
                f'{self.place} does not fit {type(whole).__name__}: it has no {first_few(sorted(missing))}'
            )
        tower.pools = pooled is not None and bool(pooled.isfinite().all())
        for key, value in kept.items():
            known[key].copy_(value)

    def _size(self) -> Grid:
        size = getattr(self.vision, 'image_size', None)
        if size is None and (patches := getattr(self.vision, 'num_patches', None)):
            size = math.isqrt(patches) * self.vision.patch_size
        size = DEFAULT_SIZE if size is None else size
        return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))

    def statistics(self) -> Statistics:
        """Find mean and std of the images that the weights were trained on, 0–1 scale."""
        try:
            processor = self.library.AutoImageProcessor.from_pretrained(self.place, **self.options)
        except Exception:  # there is none, or one of no known kind
            return self._family_statistics()
        rescales = getattr(processor, 'do_rescale', True)
        scale = 255 * ((getattr(processor, 'rescale_factor', None) or 1 / 255) if rescales else 1)
        mean, std = getattr(processor, 'image_mean', None), getattr(processor, 'image_std', None)
        if not getattr(processor, 'do_normalize', True) or mean is None or std is None:
            mean, std = UNCHANGED
        return tuple(value / scale for value in mean), tuple(value / scale for value in std)

    def _family_statistics(self) -> Statistics:
        if hasattr(self.vision, 'norm_mean'):  # the network itself normalises
            return UNCHANGED
        from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING

        kinds: Any = IMAGE_PROCESSOR_MAPPING.get(type(self.config), {})
        family = next(iter(kinds.values()), None) if isinstance(kinds, dict) else None
        mean, std = getattr(family, 'image_mean', None), getattr(family, 'image_std', None)
        if mean is None or std is None:
            mean, std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
        guess = f'mean {tuple(mean)} and std {tuple(std)} are a guess'
        advice = 'give model.target_generator.teacher_mean and teacher_std if they are wrong'
        told = f'{self.name} has no preprocessor_config.json, so {guess}: {advice}'
        print_log(told, logger='current', level=logging.WARNING)
        return tuple(mean), tuple(std)


def _patches_of(images: Tensor, side: int) -> dict[str, Any]:
    """Cut images into the rows of patches, channels last, that NaFlex towers take."""
    patches = images.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 4, 5, 1)
    shapes = torch.tensor([patches.shape[1:3]] * len(images), device='cpu')  # whose numbers the host reads
    return {IMAGES: patches.flatten(3).flatten(1, 2), 'pixel_attention_mask': None, 'spatial_shapes': shapes}
