"""ViTDet's pyramid over a plain vision transformer."""

import math
from collections.abc import Sequence

from mmcv.cnn import build_norm_layer
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Build maps of several strides from the last map of a plain transformer (ViTDet §3, Fig. 2c).

    Layers and defaults are those of ViTDet's code: a level is the map, enlarged by transposed convolutions of
    stride 2 that halve its width, with normalisation and GELU between them, or shrunk by max pooling; then a
    1x1 and a 3x3 convolution, each with normalisation.

    Args:
        in_channels: Width C of the transformer's map.
        out_channels: Width of each level. Default 256.
        scales: Sizes relative to the map, powers of two. Default (4, 2, 1, 0.5): strides 4 to 32 of a ViT/16.
        num_outs: Number of levels. Those beyond ``scales`` take every second place of the one before.
            Default 5: one more for the region proposals.
        norm_cfg: Normalisation. Default: LayerNorm over the channels of each place.

    Raises:
        ValueError: If a scale is no power of two, or there are more scales than ``num_outs``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        scales: Sequence[float] = (4, 2, 1, 0.5),
        num_outs: int = 5,
        norm_cfg: dict = dict(type='mmpretrain.LN2d', eps=1e-6),  # noqa: B006
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if len(scales) > num_outs:
            raise ValueError(
                f'num_outs={num_outs} is less than the {len(scales)} scales: give as many or more'
            )
        self.num_outs = num_outs
        self.levels = nn.ModuleList()
        for scale in scales:
            doublings = math.log2(scale) if scale > 0 else math.nan
            if not doublings.is_integer():
                raise ValueError(f'scales={tuple(scales)}: {scale} is no power of two, such as 4 or 0.5')
            width, layers = in_channels, list[nn.Module]()
            if scale < 1:
                layers.append(nn.MaxPool2d(round(1 / scale)))
            for number in range(int(doublings)):
                if number > 0:
                    layers += [build_norm_layer(norm_cfg, width)[1], nn.GELU()]
                layers.append(nn.ConvTranspose2d(width, width := width // 2, 2, stride=2))
            for kernel in (1, 3):
                layers += [
                    nn.Conv2d(width, width := out_channels, kernel, padding=kernel // 2, bias=False),
                    build_norm_layer(norm_cfg, width)[1],
                ]
            self.levels.append(nn.Sequential(*layers))

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Turn the last of a backbone's maps, ``(B, C, h, w)``, into ``num_outs`` float32 levels.

        They are float32 under autocast too: mmdet rounds boxes to the dtype of the maps, in bf16 to 4 pixels.
        """
        levels = [level(maps[-1]).float() for level in self.levels]
        while len(levels) < self.num_outs:
            levels.append(F.max_pool2d(levels[-1], 1, stride=2))
        return tuple(levels)
