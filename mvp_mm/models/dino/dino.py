"""Train a vision-only teacher by DINO or iBOT, through lightly's losses and head."""

import timm
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn import functional as F


@MODELS.register_module()
class DINOTeacher(BaseModel):
    """A timm vision transformer that learns to agree with a slow copy of itself over crops.

    DINO (Caron et al., 2021); with ``patch_weight`` also iBOT (Zhou et al., 2022): it predicts the slow
    copy's patch tokens where its own view is masked; with ``spread_weight`` also DINOv2's KoLeo term.

    Needs the package ``lightly`` (``pip install 'mvp_mm[teachers]'``).

    Args:
        vit: Arguments of timm's ``create_model``: the network.
        num_prototypes: Outputs of the head. Default 1024 (DINO: 65536, for ImageNet).
        head_width: Hidden width of the head. Default 512 (DINO: 2048).
        bottleneck_width: Default 128 (DINO: 256).
        momentum: Share of the slow copy kept at each step, rising to 1 by a cosine. Default 0.996
            (DINO).
        warmup_teacher_temperature: Default 0.04 (DINO).
        teacher_temperature: After the warm-up. Default 0.04 (DINO's default; 0.07 in its longest runs).
        warmup_epochs: Epochs of it. Default 0.
        frozen_epochs: Epochs in which the head's last layer stands still. Default 1 (DINO).
        patch_weight: Of iBOT's term. Default 0: DINO (iBOT, DINOv2: 1).
        spread_weight: Of the KoLeo term, which keeps CLS tokens of a batch apart. Default 0 (DINOv2: 0.1).
        num_global_views: The views that the slow copy sees; the first so many. Default 2 (DINO).
        data_preprocessor: Config. Default mmpretrain's ``SelfSupDataPreprocessor`` with ImageNet's mean
            and std.

    Raises:
        ModuleNotFoundError: Without lightly.
    """

    def __init__(
        self,
        vit: dict,
        num_prototypes: int = 1024,
        head_width: int = 512,
        bottleneck_width: int = 128,
        momentum: float = 0.996,
        warmup_teacher_temperature: float = 0.04,
        teacher_temperature: float = 0.04,
        warmup_epochs: int = 0,
        frozen_epochs: int = 1,
        patch_weight: float = 0.0,
        spread_weight: float = 0.0,
        num_global_views: int = 2,
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        try:
            from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss
            from lightly.models.modules import DINOProjectionHead
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"{error}: training a DINO teacher needs it: pip install 'mvp_mm[teachers]'"
            ) from None
        if data_preprocessor is None:
            data_preprocessor = dict(
                type='SelfSupDataPreprocessor',
                mean=[123.675, 116.28, 103.53],
                std=[58.395, 57.12, 57.375],
                to_rgb=False,
            )
        super().__init__(data_preprocessor)
        # dynamic_img_size: the small crops are smaller than what the positions were made for
        vit = dict(num_classes=0, dynamic_img_size=True, **vit)
        self.vit, self.slow_vit = timm.create_model(**vit), timm.create_model(**vit)
        if not torch.cuda.is_available():
            for network in (self.vit, self.slow_vit):
                for block in network.blocks:
                    # torch's fused attention takes half of the step's time on a CPU
                    block.attn.fused_attn = False
        head = dict(
            input_dim=self.vit.num_features,
            hidden_dim=head_width,
            bottleneck_dim=bottleneck_width,
            output_dim=num_prototypes,
        )
        self.head = DINOProjectionHead(**head)
        self.slow_head = DINOProjectionHead(**head)
        for fast, slow in self._pairs():
            slow.load_state_dict(fast.state_dict())
            slow.requires_grad_(False)
        self.loss_module = DINOLoss(
            num_prototypes,
            warmup_teacher_temp=warmup_teacher_temperature,
            teacher_temp=teacher_temperature,
            warmup_teacher_temp_epochs=warmup_epochs,
        )
        self.patch_loss = IBOTPatchLoss(num_prototypes, teacher_temp=teacher_temperature)
        self.spread_loss = KoLeoLoss()
        self.mask_token = nn.Parameter(torch.zeros(self.vit.num_features), requires_grad=patch_weight > 0)
        self.patch_weight = patch_weight
        self.spread_weight = spread_weight
        self.momentum = momentum
        self.frozen_epochs = frozen_epochs
        self.num_global_views = num_global_views

    def _pairs(self) -> tuple[tuple[nn.Module, nn.Module], ...]:
        return (self.vit, self.slow_vit), (self.head, self.slow_head)

    def forward(
        self,
        inputs: list[Tensor] | Tensor,
        data_samples: list[DataSample] | None = None,
        mode: str = 'tensor',
    ) -> dict | list | Tensor:
        """MMEngine's entry.

        Args:
            inputs: For ``'loss'`` views, each ``(B, 3, H, W)``, normalised, of which the first
                ``num_global_views`` are large; else one such tensor.
            data_samples: B samples, passed on by ``'predict'``.
            mode: ``'loss'``, ``'predict'`` (unit CLS tokens of the slow copy, as ``feature``) or
                ``'tensor'`` (those tokens).
        """
        if mode == 'loss':
            return self.loss(inputs)
        tokens = self.slow_vit(inputs)  # one view
        if mode == 'tensor':
            return tokens
        for sample, feature in zip(data_samples, F.normalize(tokens.float(), dim=-1), strict=True):
            sample.set_field(feature, 'feature')
        return data_samples

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        """DINO's cross-entropy between all pairs of a global view and another view, and the added terms.

        Args:
            views: Each ``(B, 3, H, W)``, normalised; the global ones first.

        Returns:
            ``loss_view`` and, where their weights are not 0, ``loss_patch`` and ``loss_spread``.
        """
        hub = MessageHub.get_current_instance()
        epoch = hub.get_info('epoch', 0)
        large, small = torch.cat(views[: self.num_global_views]), views[self.num_global_views :]
        mask = self._draw_mask(large)
        with torch.no_grad():
            self._follow(hub.get_info('iter', 0) / max(1, hub.get_info('max_iters', 1)))
            slow = self._encode(self.slow_vit, large)
            slow_views = self.slow_head(slow[:, 0]).float().chunk(self.num_global_views)
        self.head.last_layer.weight_v.requires_grad_(epoch >= self.frozen_epochs)
        fast = self._encode(self.vit, large, mask)
        fast_views = [*self.head(fast[:, 0]).float().chunk(self.num_global_views)]
        fast_views += [self.head(self._encode(self.vit, view)[:, 0]).float() for view in small]
        losses = dict(loss_view=self.loss_module(list(slow_views), fast_views, epoch=epoch))
        if mask is not None:
            hidden = mask.flatten(1)
            with torch.no_grad():
                target = self.slow_head(slow[:, 1:][hidden]).float()
            guess = self.head(fast[:, 1:][hidden]).float()
            losses['loss_patch'] = self.patch_weight * self.patch_loss(target, guess, mask)
        if self.spread_weight:
            spread = [self.spread_loss(tokens.float()) for tokens in fast[:, 0].chunk(self.num_global_views)]
            losses['loss_spread'] = self.spread_weight * sum(spread)
        return losses

    def _draw_mask(self, images: Tensor) -> Tensor | None:
        """``(B, h, w)`` bool, blocks in half of the images (DINOv2), or None for DINO."""
        if not self.patch_weight:
            return None
        from lightly.models.utils import random_block_mask

        height, width = self.vit.patch_embed.dynamic_feat_size(images.shape[-2:])
        return random_block_mask((len(images), height, width), device=images.device)

    def _encode(self, vit: nn.Module, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """``(B, 3, H, W)`` to normed tokens ``(B, 1 + h * w, C)``, CLS first."""
        patches = vit.patch_embed(images)  # (B, h, w, C): timm's form with dynamic_img_size
        if mask is not None:
            patches = torch.where(mask[..., None], self.mask_token.to(patches.dtype), patches)
        return vit.norm(vit.blocks(vit.norm_pre(vit._pos_embed(patches))))

    def _follow(self, progress: float) -> None:
        from lightly.models.utils import update_momentum
        from lightly.utils.scheduler import cosine_schedule

        momentum = cosine_schedule(round(progress * 10000), 10001, self.momentum, 1.0)
        for fast, slow in self._pairs():
            update_momentum(fast, slow, m=momentum)

    def teacher_state(self) -> dict[str, Tensor]:
        """The weights that a target generator loads: the slow copy's, as DINO publishes."""
        return self.slow_vit.state_dict()
