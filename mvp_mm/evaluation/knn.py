"""k-NN evaluation without training: DINO's protocol, in bounded memory.

Shape legend: N training images, Q queries, D feature width, k neighbours.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

KS = (10, 20, 100, 200)  # DINO eval_knn.py
TEMPERATURE = 0.07  # DINO eval_knn.py


@dataclass(frozen=True)
class KnnAccuracy:
    """Accuracy of one k, in percent.

    Args:
        k: Number of neighbours.
        top1: The class with the most votes is right.
        top5: The right class is among the five with the most votes. None where there are no more than five.
    """

    k: int
    top1: float
    top5: float | None

    def __str__(self) -> str:
        top5 = '' if self.top5 is None else f', top-5 {self.top5:.2f}'
        return f'{self.k:>4}-NN: top-1 {self.top1:.2f}{top5}'


def knn_accuracy(
    train: Tensor,
    train_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    ks: Sequence[int] = KS,
    temperature: float = TEMPERATURE,
    query_chunk: int = 1024,
    train_chunk: int = 32768,
    device: torch.device | str = 'cpu',
) -> list[KnnAccuracy]:
    """Classify each query by its nearest training images; a neighbour's vote weighs exp(cosine / T).

    Beside the features themselves, memory holds query_chunk x train_chunk similarities (128 MiB by
    default), whatever N and Q.

    Args:
        train: ``(N, D)``, L2-normalised, float32 or float16, on any device.
        train_labels: ``(N,)`` int.
        queries: ``(Q, D)`` alike.
        query_labels: ``(Q,)`` int.
        ks: Numbers of neighbours; one beyond N is skipped, with a line in the log. Default 10, 20, 100
            and 200 (DINO eval_knn.py).
        temperature: T. Default 0.07 (DINO eval_knn.py).
        query_chunk: Queries at a time. No result depends on it but by rounding.
        train_chunk: Training images at a time. No result depends on it but by rounding.
        device: Where similarities are computed, in float32.

    Returns:
        One entry for each k that was not skipped, ascending.

    Raises:
        ValueError: If shapes do not fit, or no k is between 1 and N.
    """
    _check_shapes(train, train_labels, queries, query_labels)
    usable = _usable(ks, len(train))
    num_classes = int(max(train_labels.max(), query_labels.max())) + 1
    train_labels = train_labels.to(device)
    hits = torch.zeros(len(usable), 2, dtype=torch.long)  # of top-1, of top-5
    for begin in range(0, len(queries), query_chunk):
        chunk = queries[begin : begin + query_chunk].to(device, torch.float32)
        labels = query_labels[begin : begin + query_chunk].to(device)
        cosines, indices = _nearest(chunk, train, usable[-1], train_chunk)
        weights = (cosines / temperature).exp()
        neighbour_labels = train_labels[indices]
        for row, k in enumerate(usable):
            votes = weights.new_zeros(len(chunk), num_classes)
            votes.scatter_add_(1, neighbour_labels[:, :k], weights[:, :k])
            right = votes.topk(min(5, num_classes), dim=1).indices == labels[:, None]
            hits[row] += torch.stack([right[:, 0].sum(), right.sum()]).cpu()
    shares = 100 * hits.double() / len(queries)
    return [
        KnnAccuracy(k, top1, top5 if num_classes > 5 else None)
        for k, (top1, top5) in zip(usable, shares.tolist(), strict=True)
    ]


def _nearest(queries: Tensor, train: Tensor, k: int, train_chunk: int) -> tuple[Tensor, Tensor]:
    """The k largest cosines ``(Q, k)``, descending, and where in ``train`` they are found."""
    best = queries.new_empty(len(queries), 0)
    where = torch.empty(len(queries), 0, dtype=torch.long, device=queries.device)
    for begin in range(0, len(train), train_chunk):
        chunk = train[begin : begin + train_chunk].to(queries)
        cosines, indices = (queries @ chunk.T).topk(min(k, len(chunk)), dim=1)
        best = torch.cat([best, cosines], dim=1)
        where = torch.cat([where, indices + begin], dim=1)
        best, kept = best.topk(min(k, best.shape[1]), dim=1)
        where = where.gather(1, kept)
    return best, where


def _check_shapes(train: Tensor, train_labels: Tensor, queries: Tensor, query_labels: Tensor) -> None:
    for name, features, labels in (('train', train, train_labels), ('queries', queries, query_labels)):
        if features.ndim != 2 or labels.shape != features.shape[:1] or len(features) == 0:
            raise ValueError(
                f'{name}: expected features (N, D) and labels (N,) with N > 0, got '
                f'{tuple(features.shape)} and {tuple(labels.shape)}'
            )
    if train.shape[1] != queries.shape[1]:
        raise ValueError(f'features of width {train.shape[1]} and {queries.shape[1]} cannot be compared')


def _usable(ks: Sequence[int], num_train: int) -> list[int]:
    usable = sorted({k for k in ks if 1 <= k <= num_train})
    for k in sorted(set(ks) - set(usable)):
        print_log(f'{k}-NN is skipped: there are {num_train} training images', 'current')
    if not usable:
        raise ValueError(
            f'no k of {tuple(ks)} lies between 1 and {num_train}, the number of training images: choose a '
            'smaller k (--k)'
        )
    return usable


@torch.no_grad()
def extract_features(
    model: nn.Module, loader: DataLoader, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """L2-normalised features of all images of a loader.

    Args:
        model: mmpretrain's ``ImageClassifier``; what its head would classify is the feature.
        loader: Packed samples with ``gt_label``.
        dtype: What the features are kept in. ImageNet-1K's at D = 768 take 3.7 GiB in float32, half of
            that in float16.

    Returns:
        Features ``(N, D)`` and labels ``(N,)`` in the loader's order, on the CPU.

    Raises:
        ValueError: If the model gives something else than one vector an image.
    """
    model.eval()
    num_images = len(loader.dataset)
    features, labels = None, torch.empty(num_images, dtype=torch.long)
    begin = 0
    for number, batch in enumerate(loader):
        batch = model.data_preprocessor(batch, training=False)
        vectors = model.extract_feat(batch['inputs'], stage='pre_logits')
        if not isinstance(vectors, Tensor) or vectors.ndim != 2:
            raise ValueError(
                f'k-NN needs one vector (B, D) an image, got {_described(vectors)}: use a classification '
                "config, with a backbone of out_type='avg_featmap' or 'cls_token'"
            )
        if features is None:
            features = torch.empty(num_images, vectors.shape[1], dtype=dtype)
        end = begin + len(vectors)
        features[begin:end] = F.normalize(vectors.float(), dim=1).to(dtype)
        labels[begin:end] = torch.cat([sample.gt_label for sample in batch['data_samples']])
        begin = end
        if (number + 1) % max(1, len(loader) // 10) == 0:
            print_log(f'Features of {begin} of {num_images} images', 'current')
    return features, labels


def _described(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def feature_datasets(cfg: Config) -> tuple[dict, dict]:
    """Configs of the training and the validation images, both with the evaluation transforms.

    Raises:
        ValueError: If the config has no labelled images.
    """
    loaders = [cfg.get(f'{phase}_dataloader') or {} for phase in ('train', 'val')]
    if 'head' not in cfg.model or not all('pipeline' in loader.get('dataset', {}) for loader in loaders):
        raise ValueError(
            'k-NN needs the images and labels of a classification config, such as '
            f'configs/finetune/vitb16_in1k.py; {cfg.filename or "this one"} is another. A checkpoint of '
            'pre-training is given beside it'
        )
    validation = copy.deepcopy(cfg.val_dataloader.dataset)
    train = copy.deepcopy(cfg.train_dataloader.dataset)
    train.pipeline = copy.deepcopy(validation.pipeline)
    return train, validation
