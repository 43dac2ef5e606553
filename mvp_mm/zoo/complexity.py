"""How large a config's network is, and what one image costs it."""

import warnings
from dataclasses import dataclass

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

# Models that answer themselves; of all others (the ways to pre-train) the student is what is kept.
WHOLE = ('ImageClassifier', 'EncoderDecoder', 'WindowedEncoderDecoder')


@dataclass(frozen=True)
class Complexity:
    """What a metafile says of a network.

    Args:
        parameters: Entries of its parameters, frozen ones included.
        flops: Multiply-adds of a forward pass of one image, as OpenMMLab's metafiles count them.
    """

    parameters: int
    flops: int


def complexity(cfg: Config) -> Complexity:
    """Count the parameters and the multiply-adds of a config's network, without memory for its weights.

    Products of matrices (fused attention among them) and convolutions are counted, by torch's own counter,
    which takes a multiply-add for two; norms and activations are not. Of a pre-training config the student
    is counted, on a whole image, without its neck and its teacher. Of a segmentation model the auxiliary
    head has parameters, but does not run. Of a CLIP the text branch has parameters, but does not run.

    Args:
        cfg: Any config of this package; not changed.

    Returns:
        The counts, at the image size of the config.
    """
    model = Config(cfg.to_dict()).model
    scope = cfg.get('default_scope', 'mmpretrain')
    with torch.device('meta'), DefaultScope.overwrite_default_scope(scope), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # mmseg's losses warn of their defaults
        network = _network(model).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, *network.img_size))
    parameters = sum(value.numel() for value in network.parameters())
    return Complexity(parameters, counter.get_total_flops() // 2)


class _Measured(nn.Module):
    """A network whose ``forward`` takes images ``(B, 3, H, W)`` alone."""

    def __init__(self, net: nn.Module, img_size: int | tuple[int, int]) -> None:
        super().__init__()
        self.net = net
        self.img_size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)

    def forward(self, images: Tensor) -> object:
        return self.net(images)


class _Whole(_Measured):
    def forward(self, images: Tensor) -> object:
        """Scores of classes, or of classes and pixels."""
        return self.net(images, mode='tensor')


class _Probe(_Measured):
    def forward(self, images: Tensor) -> object:
        """Scores of all classifiers; the head's own forward wants a device that has autocast."""
        head = self.net.head
        features = map(head.pooled, self.net.backbone(images))
        return [
            [classifier(row) for classifier in classifiers]
            for row, classifiers in zip(features, head.classifiers, strict=True)
        ]


class _Student(_Measured):
    def forward(self, images: Tensor) -> object:
        """Tokens of images of which nothing is hidden; mmpretrain's students want to be told so."""
        return self.net(images, None)


class _Clip(_Measured):
    def forward(self, images: Tensor) -> Tensor:
        """Embeddings of images."""
        return self.net.encode_image(images)


def _network(model: ConfigDict) -> _Measured:
    kind = model.type.split('.')[-1]
    if kind in ('DINO', 'DINOTeacher'):
        import timm

        return _Measured(timm.create_model(num_classes=0, **model.vit.to_dict()), model.vit.img_size)
    if kind in ('OpenCLIP', 'CLIPTeacher'):
        clip = MODELS.build(model).clip
        return _Clip(clip, clip.visual.image_size)
    model.backbone.init_cfg = None
    size = model.backbone.img_size
    if kind in WHOLE:
        if model.get('head', {}).get('type') == 'LinearProbeHead':
            return _Probe(MODELS.build(model), size)
        return _Whole(MODELS.build(model), size)
    return _Student(MODELS.build(model.backbone), size)
