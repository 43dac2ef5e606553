"""Many linear classifiers on one frozen backbone, trained at once.

Shape legend: B batch, L tokens with CLS first, C width, N blocks, R learning rates, K classes.
"""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import cast

import torch
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn import functional as F

MAX_TOPK = 5
INIT_STD = 0.01  # of the weights; biases start at 0


@MODELS.register_module()
class LinearProbeHead(BaseModule):
    """One linear classifier for each block and learning rate (BEiT run_linear_eval.py, as all defaults).

    Losses are summed and AdamW works element by element, so each classifier learns exactly as if alone. Use
    it with a frozen ``MVPViT`` of ``out_type='raw'``, ``LinearProbeOptimWrapperConstructor`` and
    ``LinearProbeAccuracy``.

    Args:
        num_classes: K.
        in_channels: Width C of the backbone.
        blocks: Indices of the N probed blocks, ascending: the backbone's ``out_indices``.
        lr_multipliers: R factors on the optimiser's learning rate. Default ``(1.0,)``.
        pooling: ``'both'`` (default) concatenates CLS and the mean patch token; or ``'cls'``, ``'mean'``.
        init_cfg: See MMEngine's ``BaseModule``.

    Raises:
        ValueError: If an argument is none of the above, or the backbone does not return N outputs of tokens.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        blocks: Sequence[int],
        lr_multipliers: Sequence[float] = (1.0,),
        pooling: str = 'both',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if pooling not in ('both', 'cls', 'mean'):
            raise ValueError(f"pooling={pooling!r} is none of 'both', 'cls', 'mean'")
        self.blocks = tuple(blocks)
        if not self.blocks or min(self.blocks) < 0 or list(self.blocks) != sorted(set(self.blocks)):
            raise ValueError(f'blocks={self.blocks}: expected block numbers from 0, each once, ascending')
        factors = self.lr_multipliers = tuple(float(factor) for factor in lr_multipliers)
        if not factors or min(factors) <= 0 or list(factors) != sorted(set(factors)):
            raise ValueError(f'lr_multipliers={factors}: expected positive numbers, each once, ascending')
        self.num_classes, self.pooling = num_classes, pooling
        features = in_channels * (2 if pooling == 'both' else 1)
        self.classifiers = nn.ModuleList(
            nn.ModuleList(nn.Linear(features, num_classes) for _ in factors) for _ in self.blocks
        )
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=INIT_STD)
            else:
                nn.init.zeros_(parameter)

    def lr_multiplier_of(self, param_name: str) -> float:
        """Return a parameter's factor on the learning rate, by its name in this head."""
        return self.lr_multipliers[int(param_name.split('.')[2])]  # classifiers.<block>.<rate>.weight

    def pooled(self, tokens: Tensor) -> Tensor:
        """Pool a block's tokens ``(B, L, C)`` to float32 features ``(B, C)`` or ``(B, 2C)``, detached."""
        tokens = tokens.detach()
        if self.pooling == 'cls':
            return tokens[:, 0].float()
        mean = tokens[:, 1:].float().mean(dim=1)
        return mean if self.pooling == 'mean' else torch.cat([tokens[:, 0].float(), mean], dim=1)

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Score N blocks' tokens ``(B, L, C)``: ``(B, N, R, K)``, float32 also under autocast."""
        if len(feats) != len(self.blocks) or any(tokens.ndim != 3 for tokens in feats):
            raise ValueError(
                f'expected the tokens (B, L, C) of the {len(self.blocks)} blocks {self.blocks}, got '
                f'{[tuple(tokens.shape) for tokens in feats]}: set model.backbone.out_indices to '
                "model.head.blocks, and model.backbone.out_type='raw'"
            )
        scores, device, rows = [], feats[0].device.type, cast(Iterable[nn.ModuleList], self.classifiers)
        with nullcontext() if device == 'meta' else torch.autocast(device, enabled=False):
            for tokens, classifiers in zip(feats, rows, strict=True):
                features = self.pooled(tokens)
                scores.append(torch.stack([classifier(features) for classifier in classifiers], dim=1))
        return torch.stack(scores, dim=1)

    def loss(self, feats: tuple[Tensor, ...], data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Sum the classifiers' mean cross-entropies; the lowest is logged."""
        scores = self(feats)
        labels = torch.cat([sample.gt_label for sample in data_samples])
        each = F.cross_entropy(
            scores.flatten(1, 2).transpose(1, 2),  # (B, K, N * R)
            labels[:, None].expand(-1, scores.shape[1] * scores.shape[2]),
            reduction='none',
        ).mean(dim=0)
        return dict(loss=each.sum(), lowest_cross_entropy=each.detach().min())

    def predict(
        self, feats: tuple[Tensor, ...], data_samples: list[DataSample] | None = None
    ) -> list[DataSample]:
        """Add ``probe_labels``, each classifier's top 5 ``(N, R, 5)``, or its top 1 of at most 5 classes."""
        ranked = self(feats).topk(MAX_TOPK if self.num_classes > MAX_TOPK else 1, dim=-1).indices
        data_samples = data_samples or [DataSample() for _ in range(len(ranked))]
        for sample, labels in zip(data_samples, ranked, strict=True):
            sample.set_field(labels, 'probe_labels')
            sample.set_metainfo(dict(probe_blocks=self.blocks, probe_lr_multipliers=self.lr_multipliers))
        return data_samples
