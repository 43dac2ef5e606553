"""Train a vision-only teacher by DINO or iBOT, with lightly's losses and head."""

import warnings
from typing import Any

import timm
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbones.timm_network import attentions_of, choose_kernel

GLOBAL_VIEWS = 2  # that the teacher sees, the first ones


@MODELS.register_module(name=['DINO', 'DINOTeacher'])
class DINO(BaseModel):
    """Self-distillation of a timm vision transformer over crops; the teacher is an EMA of the student.

    DINO (Caron et al., 2021); with ``patch_weight`` also iBOT (Zhou et al., 2022), which predicts the
    teacher's patch tokens where the student's view is masked; with ``koleo_weight`` also DINOv2's KoLeo term.
    Needs the package ``lightly`` (``pip install 'mvp_mm[teachers]'``).

    Args:
        vit: Arguments of timm's ``create_model`` for student and teacher.
        num_prototypes: Outputs of the head. Default 1024 (DINO: 65536, for ImageNet).
        head_width: Hidden width of the head. Default 512 (DINO: 2048).
        bottleneck_width: Default 128 (DINO: 256).
        momentum: Of the teacher, rising to 1 by a cosine. Default 0.996 (DINO).
        teacher_temperature: Default 0.04 (DINO; 0.07 after a warm-up in its longest runs).
        frozen_epochs: Epochs with the head's last layer frozen; a run of iterations is one. Default 1 (DINO).
        patch_weight: Weight of iBOT's term. Default 0 (iBOT, DINOv2: 1).
        koleo_weight: Weight of the KoLeo term, which spreads a batch's CLS tokens. Default 0 (DINOv2: 0.1).
        data_preprocessor: Config. Default ``SelfSupDataPreprocessor`` with ImageNet's mean and std.
        spread_weight: Old name of ``koleo_weight``.

    Raises:
        ModuleNotFoundError: Without lightly.
    """

    task = 'pretraining'
    # KoLeo compares the samples of a batch, and centre and teacher move with every forward pass: two
    # accumulated batches are not one large batch.
    batch_coupled = True

    def __init__(
        self,
        vit: dict,
        num_prototypes: int = 1024,
        head_width: int = 512,
        bottleneck_width: int = 128,
        momentum: float = 0.996,
        teacher_temperature: float = 0.04,
        frozen_epochs: int = 1,
        patch_weight: float = 0.0,
        koleo_weight: float = 0.0,
        data_preprocessor: dict | nn.Module | None = None,
        spread_weight: float | None = None,
    ) -> None:
        if spread_weight is not None:
            warnings.warn('DINO: spread_weight is now koleo_weight', DeprecationWarning, stacklevel=2)
            koleo_weight = spread_weight
        try:
            from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss
            from lightly.models.modules import DINOProjectionHead
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"{error}: training a DINO teacher needs it: pip install 'mvp_mm[teachers]'"
            ) from None
        statistics = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
        default = dict(type='mmpretrain.SelfSupDataPreprocessor', **statistics, to_rgb=False)
        super().__init__(data_preprocessor or default)
        # dynamic_img_size: the small crops have fewer patches
        vit = dict(num_classes=0, dynamic_img_size=True, **vit)
        self.student: Any = timm.create_model(**vit)
        self.teacher: Any = timm.create_model(**vit)
        self._attentions = attentions_of(self.student)
        self._is_frozen = False
        width: Any = self.student.num_features
        widths = width, head_width, bottleneck_width, num_prototypes
        self.head, self.teacher_head = DINOProjectionHead(*widths), DINOProjectionHead(*widths)
        for student, teacher in self._pairs():
            teacher.load_state_dict(student.state_dict())
            teacher.requires_grad_(False)
        targets = dict(output_dim=num_prototypes, teacher_temp=teacher_temperature)
        self.loss_module = DINOLoss(**targets, warmup_teacher_temp_epochs=0)
        self.patch_loss = IBOTPatchLoss(**targets)
        self.koleo_loss = KoLeoLoss()
        self.mask_token = nn.Parameter(torch.zeros(width), requires_grad=patch_weight > 0)
        self.patch_weight, self.koleo_weight = patch_weight, koleo_weight
        self.momentum, self.frozen_epochs = momentum, frozen_epochs
        self.register_load_state_dict_pre_hook(_rename_old_parts)

    def _pairs(self) -> tuple[tuple[nn.Module, nn.Module], ...]:
        return (self.student, self.teacher), (self.head, self.teacher_head)

    def example_inputs(self, batch: int = 1) -> tuple[Tensor]:
        """Zero images ``(batch, 3, H, W)`` of the built size, on this module's device."""
        return (self.mask_token.new_zeros(batch, 3, *self.teacher.patch_embed.img_size),)

    def forward(
        self,
        inputs: list[Tensor] | Tensor,
        data_samples: list[DataSample] | None = None,
        mode: str = 'tensor',
    ) -> dict | list | Tensor:
        """MMEngine's entry.

        Args:
            inputs: ``(B, 3, H, W)``, normalised; for ``'loss'`` a list of such views, the large ones first.
            data_samples: B samples, for ``'predict'``.
            mode: ``'loss'``, ``'tensor'`` (the teacher's CLS tokens) or ``'predict'`` (as unit ``feature``).
        """
        if mode == 'loss':
            return self.loss(list(inputs))
        tokens = self.teacher(inputs)
        if mode == 'tensor':
            return tokens
        if data_samples is None:
            raise ValueError(f'mode={mode!r} needs data_samples')
        for sample, feature in zip(data_samples, F.normalize(tokens.float(), dim=-1), strict=True):
            sample.set_field(feature, 'feature')
        return data_samples

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """Compute ``loss_view`` and, unless their weights are 0, ``loss_patch`` and ``loss_koleo``.

        ``views`` are ``(B, 3, H, W)``, normalised, the global ones first.
        """
        hub = MessageHub.get_current_instance()
        epoch = hub.get_info('epoch', 0)
        large, small = torch.cat(views[:GLOBAL_VIEWS]), views[GLOBAL_VIEWS:]
        mask = self._draw_mask(large)
        choose_kernel(self._attentions, large, self.training)
        with torch.no_grad():
            self._update_teacher(hub.get_info('iter', 0) / max(1, hub.get_info('max_iters', 1)))
            targets = self._encode(self.teacher, large)
            teacher_views = self.teacher_head(targets[:, 0]).float().chunk(GLOBAL_VIEWS)
        self._freeze_last_layer(epoch < self.frozen_epochs)
        tokens = self._encode(self.student, large, mask)
        views = [*self.head(tokens[:, 0]).float().chunk(GLOBAL_VIEWS)]
        views += [self.head(self._encode(self.student, view)[:, 0]).float() for view in small]
        losses = dict(loss_view=self.loss_module(list(teacher_views), views, epoch=epoch))
        if mask is not None:
            hidden = mask.flatten(1)
            with torch.no_grad():
                target = self.teacher_head(targets[:, 1:][hidden]).float()
            prediction = self.head(tokens[:, 1:][hidden]).float()
            losses['loss_patch'] = self.patch_weight * self.patch_loss(target, prediction, mask)
        if self.koleo_weight:
            terms = [self.koleo_loss(view.float()) for view in tokens[:, 0].chunk(GLOBAL_VIEWS)]
            losses['loss_koleo'] = self.koleo_weight * sum(terms)
        return losses

    def _freeze_last_layer(self, frozen: bool) -> None:
        """Give the head's last layer gradients of zero: DDP waits for one of every parameter."""
        self._is_frozen = frozen
        weight = self.head.last_layer.weight_v
        if not weight._backward_hooks:  # a copy of the model has none
            weight.register_hook(lambda gradient: torch.zeros_like(gradient) if self._is_frozen else gradient)

    def _draw_mask(self, images: Tensor) -> Tensor | None:
        """Draw blocks in half of the images (DINOv2): ``(B, h, w)`` bool, or None for DINO."""
        if not self.patch_weight:
            return None
        from lightly.models.utils import random_block_mask

        height, width = self.student.patch_embed.dynamic_feat_size(images.shape[-2:])
        # DINOv2's blocks have 4 patches at least; of a small grid as little as a tenth is masked.
        smallest = min(4, height * width // 10)
        size = len(images), height, width
        mask = random_block_mask(size, min_num_masks_per_block=smallest)  # each try reads it: not on a GPU
        return mask.to(images.device, non_blocking=True)

    def _encode(self, vit: Any, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode ``(B, 3, H, W)`` to normed tokens ``(B, 1 + h * w, C)``, CLS first."""
        patches = vit.patch_embed(images)  # (B, h, w, C): timm's form with dynamic_img_size
        if mask is not None:
            patches = torch.where(mask[..., None], self.mask_token.to(patches.dtype), patches)
        return vit.norm(vit.blocks(vit.norm_pre(vit._pos_embed(patches))))

    def _update_teacher(self, progress: float) -> None:
        from lightly.models.utils import update_momentum
        from lightly.utils.scheduler import cosine_schedule

        momentum = cosine_schedule(round(progress * 10000), 10001, self.momentum, 1.0)
        for student, teacher in self._pairs():
            update_momentum(student, teacher, m=momentum)

    def train(self, mode: bool = True) -> 'DINO':
        """Set the mode of the student; targets are computed without stochastic depth."""
        super().train(mode)
        self.teacher.eval()
        self.teacher_head.eval()
        return self

    def teacher_state(self) -> dict[str, Tensor]:
        """Return the weights that a target generator loads: the teacher's, as DINO publishes."""
        return self.teacher.state_dict()


def _rename_old_parts(model: nn.Module, state_dict: dict, prefix: str, *_: object) -> None:
    """Load checkpoints of 0.1, which call the parts otherwise."""
    for old, new in (('vit.', 'student.'), ('slow_vit.', 'teacher.'), ('slow_head.', 'teacher_head.')):
        for name in [name for name in state_dict if name.startswith(prefix + old)]:
            state_dict[prefix + new + name.removeprefix(prefix + old)] = state_dict.pop(name)
