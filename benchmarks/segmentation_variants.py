"""UperNet at 512 pixels: this package's backbone and mmseg's own BEiT in the same segmentor.

Weights are random: a step's time does not depend on them.
"""

from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mvp_mm.engine.optim.mvp_optim_wrapper_constructor import MVPOptimWrapperConstructor

CONFIG = Path(__file__).parents[1] / 'configs' / 'upernet' / 'vitb16_ade20k_160k_512x512.py'
SIDE = 512
SLIDE_SHAPE = (SIDE, 683)
# mmseg's own BEiT, as its ADE20K config has it, without a checkpoint
MMSEG_BEIT = dict(
    type='mmseg.BEiT',
    img_size=(SIDE, SIDE),
    patch_size=16,
    embed_dims=768,
    num_layers=12,
    num_heads=12,
    mlp_ratio=4,
    out_indices=(3, 5, 7, 11),
    qv_bias=True,
    attn_drop_rate=0.0,
    drop_path_rate=0.1,
    norm_cfg=dict(type='LN', eps=1e-6),
    act_cfg=dict(type='GELU'),
    norm_eval=False,
    init_values=0.1,
)


class Segmentor:
    """A UperNet, its training step, and its sliding-window inference.

    Args:
        batch: Images a step.
        device: Where.
        dtype: bf16 (by autocast) or float32.
        ours: This package's ``MVPViT``; else mmseg's ``BEiT``.
    """

    def __init__(self, batch: int, device: torch.device, dtype: torch.dtype, ours: bool) -> None:
        cfg = Config.fromfile(CONFIG)
        norm = 'SyncBN' if device.type == 'cuda' and torch.distributed.is_initialized() else 'BN'
        for part in ('neck', 'decode_head', 'auxiliary_head'):
            cfg.merge_from_dict({f'model.{part}.norm_cfg.type': norm})
        cfg.model.backbone.init_cfg = None
        if not ours:
            cfg.model.type = 'mmseg.EncoderDecoder'
            cfg.model.backbone = MMSEG_BEIT
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmseg'):
            self.model: nn.Module = MODELS.build(cfg.model).to(device)
            wrapper = dict(type='OptimWrapper', optimizer=dict(cfg.optim_wrapper.optimizer))
            build = MVPOptimWrapperConstructor(wrapper) if ours else partial(build_optim_wrapper, cfg=wrapper)
            self.wrapper = build(self.model)
        self.device, self.dtype = device, dtype
        self.images = torch.randint(0, 256, (batch, 3, SIDE, SIDE), dtype=torch.uint8)
        self.image = torch.randn(1, 3, *SLIDE_SHAPE, device=device)  # as normalised
        labels = torch.randint(0, 150, (batch, 1, SIDE, SIDE))
        if device.type == 'cuda':
            self.images = self.images.pin_memory()
        shape = dict(img_shape=(SIDE, SIDE), ori_shape=(SIDE, SIDE), pad_shape=(SIDE, SIDE))
        self.samples = [SegDataSample(metainfo=shape, gt_sem_seg=PixelData(data=label)) for label in labels]

    def train_step(self) -> Tensor:
        """Forward, backward and optimiser."""
        self.model.train()
        data = dict(inputs=list(self.images), data_samples=[sample.clone() for sample in self.samples])
        data = self.model.data_preprocessor(data, True)
        with self._autocast():
            losses = self.model(**data, mode='loss')
        loss, _ = self.model.parse_losses(losses)
        self.wrapper.update_params(loss)
        return loss

    @torch.no_grad()
    def slide(self) -> Tensor:
        """Logits of one image of 512 by 683 pixels, ADE20K's usual shape, by sliding windows."""
        self.model.eval()
        shape = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape'), SLIDE_SHAPE)
        with self._autocast():
            return self.model.inference(self.image, [dict(shape, padding_size=[0] * 4)])

    def _autocast(self) -> torch.autocast:
        enabled = self.dtype != torch.float32
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)
