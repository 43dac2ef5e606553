"""Image embeddings of a frozen encoder, computed once."""

from typing import Any

import torch
from mmengine.dataset import BaseDataset, default_collate
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.utils.data import Dataset

from mvp_mm.datasets import SampleIndex
from mvp_mm.models import PromptClassifier

BATCH = 250


@DATASETS.register_module()
class CachedFeatures(Dataset):
    """Embeddings in place of images, of several augmented views: epoch e sees view e modulo their number.

    Args:
        features: ``(views, N, D)``.
        labels: int64 ``(N,)``.
    """

    def __init__(self, features: Tensor, labels: Tensor) -> None:
        self.features, self.labels = features, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        view = index.epoch % len(self.features) if isinstance(index, SampleIndex) else 0
        sample = DataSample().set_gt_label(self.labels[index])
        return dict(inputs=self.features[view, index], data_samples=sample)


@torch.no_grad()
def embed(model: PromptClassifier, dataset: dict, views: int = 1, seed: int = 0) -> dict[str, Tensor]:
    """Embed a dataset's images, each view with the draws of an epoch; return CachedFeatures' arguments."""
    init_default_scope('mmpretrain')
    images: BaseDataset = DATASETS.build(dataset)
    features = []
    for view in range(views):
        parts = []
        for start in range(0, len(images), BATCH):
            chosen = range(start, min(start + BATCH, len(images)))
            batch = default_collate([images[SampleIndex(index, view, seed)] for index in chosen])
            parts.append(model(model.data_preprocessor(batch)['inputs']))
        features.append(torch.cat(parts))
    labels = torch.tensor([images.get_cat_ids(index)[0] for index in range(len(images))])
    return dict(features=torch.stack(features), labels=labels)
