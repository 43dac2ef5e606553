"""A tokenizer for BEiT-style pre-training without training: k-means over patches."""

import numpy as np
import torch
from mmpretrain.registry import DATASETS, MODELS
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn
from torch.nn import functional as F


@MODELS.register_module()
class PatchCodebook(nn.Module):
    """Codebook of K patches in place of BEiT's d-VAE, clustered from embedded scenes when it is built.

    Args:
        num_tokens: K. Default 256 (BEiT's d-VAE: 8192, for photographs).
        patch_size: Side of a patch in pixels. Default 8.
        scenes: Number of scenes to cluster. Default 200.
        scene_seed: Seed of the scenes and of k-means. Default 0.
        iterations: Of k-means. Default 20.
    """

    codebook: Tensor

    def __init__(
        self,
        num_tokens: int = 256,
        patch_size: int = 8,
        scenes: int = 200,
        scene_seed: int = 0,
        iterations: int = 20,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        dataset = DATASETS.build(dict(type='mmpretrain.SceneImages', count=scenes, scene_seed=scene_seed))
        images = torch.from_numpy(np.stack([np.asarray(sample['img']) for sample in dataset]))
        patches = self._patches(images.permute(0, 3, 1, 2).float() / 255).flatten(0, 1)
        centres, _ = kmeans2(patches.numpy(), num_tokens, iter=iterations, minit='points', seed=scene_seed)
        self.register_buffer('codebook', torch.from_numpy(centres))

    def _patches(self, images: Tensor) -> Tensor:
        return F.unfold(images, self.patch_size, stride=self.patch_size).transpose(1, 2)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return BEiTV1Head's logits, negative distances: ``(B, 3, H, W)`` in [0, 1] to ``(B, K, h, w)``."""
        height, width = (side // self.patch_size for side in images.shape[-2:])
        distances = torch.cdist(self._patches(images.float()), self.codebook.float())
        return -distances.transpose(1, 2).unflatten(2, (height, width))
