"""k-NN evaluation without training: DINO's protocol, in bounded memory.

Shape legend: N training images, Q queries, D feature width, k neighbours.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object
from mmengine.logging import print_log
from mmpretrain.registry import EVALUATORS
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from ..datasets.same_classes import require_same_classes
from ..models.compilation import require_choice
from ..models.student import student_of
from .evaluator import Evaluator

KS = (10, 20, 100, 200)  # DINO eval_knn.py
TEMPERATURE = 0.07  # DINO eval_knn.py


class KnnAccuracy(NamedTuple):
    """Percent of images whose class has the most votes of k neighbours, or is among the five with most."""

    k: int
    top1: float
    top5: float | None  # None where there are no more than five classes

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
    """Classify queries by their nearest training images: an entry for each k in use, ascending.

    A neighbour's vote weighs exp(cosine / T). Beside the features, memory holds query_chunk x train_chunk
    similarities (128 MiB by default). Of several processes each passes its share of the images, and all
    return the accuracy over all.

    Args:
        train: ``(N, D)``, L2-normalised, float32 or float16, on any device.
        train_labels: ``(N,)`` int.
        queries: ``(Q, D)`` alike.
        query_labels: ``(Q,)`` int.
        ks: Numbers of neighbours; one beyond N is skipped and logged. Default 10, 20, 100, 200 (DINO).
        temperature: T. Default 0.07 (DINO).
        query_chunk, train_chunk: Queries and training images at a time.
        device: Where similarities are computed, in float32.

    Raises:
        ValueError: If shapes do not fit, or no k is between 1 and N.
    """
    num_train, num_queries = (sum(all_gather_object(len(labels))) for labels in (train_labels, query_labels))
    given = ('train', train, train_labels, num_train), ('queries', queries, query_labels, num_queries)
    for name, features, labels, number in given:
        if features.ndim != 2 or labels.shape != features.shape[:1] or number == 0:
            shapes = f'{tuple(features.shape)} and {tuple(labels.shape)}'
            raise ValueError(f'{name}: expected features (N, D) and labels (N,) with N > 0, got {shapes}')
    if train.shape[1] != queries.shape[1]:
        raise ValueError(f'features of width {train.shape[1]} and {queries.shape[1]} cannot be compared')
    usable = _usable(ks, num_train)
    largest = max([0, *train_labels.tolist(), *query_labels.tolist()])
    num_classes = max(all_gather_object(largest)) + 1
    hits = torch.zeros(len(usable), 2, dtype=torch.long)  # of top-1, of top-5
    for share in all_gather_object((queries.cpu(), query_labels.cpu())):
        for chunk, expected in zip(*(part.split(query_chunk) for part in share), strict=True):
            chunk, expected = chunk.to(device, torch.float32), expected.to(device)
            cosines, neighbours = _nearest(chunk, train, train_labels, usable[-1], train_chunk)
            weights = ((cosines - cosines[:, :1]) / temperature).exp()  # the nearest's is 1: none overflows
            for row, k in enumerate(usable):
                votes = weights.new_zeros(len(chunk), num_classes)
                votes.scatter_add_(1, neighbours[:, :k], weights[:, :k])
                ranked = votes.topk(min(5, num_classes), dim=1)
                right = (ranked.indices == expected[:, None]) & (ranked.values > 0)
                hits[row] += torch.stack([right[:, 0].sum(), right.sum()]).cpu()
    shares = (100 * hits.double() / num_queries).tolist()
    return [
        KnnAccuracy(k, top1, top5 if num_classes > 5 else None)
        for k, (top1, top5) in zip(usable, shares, strict=True)
    ]


def _nearest(
    queries: Tensor, train: Tensor, train_labels: Tensor, k: int, train_chunk: int
) -> tuple[Tensor, Tensor]:
    """Return the k largest cosines over all processes, ``(Q, k)`` descending, and their labels."""
    best = queries.new_empty(len(queries), 0)
    found = torch.empty(len(queries), 0, dtype=torch.long, device=queries.device)
    for chunk, labels in zip(train.split(train_chunk), train_labels.split(train_chunk), strict=True):
        cosines, indices = (queries @ chunk.to(queries).T).topk(min(k, len(chunk)), dim=1)
        labels = labels.to(queries.device)[indices]
        best, found = _merge(torch.cat([best, cosines], 1), torch.cat([found, labels], 1), k)
    shares = all_gather_object((best.cpu(), found.cpu()))
    if len(shares) == 1:
        return best, found
    cosines, labels = (torch.cat(parts, 1).to(queries.device) for parts in zip(*shares, strict=True))
    return _merge(cosines, labels, k)


def _merge(cosines: Tensor, labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
    best, kept = cosines.topk(min(k, cosines.shape[1]), dim=1)
    return best, labels.gather(1, kept)


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


@EVALUATORS.register_module()
class KNN(Evaluator):
    """k-NN accuracy of a student's features, in percent, without training (DINO's protocol).

    Reported: ``top1_k<k>`` and, with more than five classes, ``top5_k<k>``. Every process holds the features
    of its share of the training images; no process holds all of them.

    Args:
        dataloader: Validation images with ``gt_label``.
        train_dataloader: Training images with ``gt_label``, with the transforms of evaluation.
        ks: See :func:`knn_accuracy`, as for ``temperature``, ``query_chunk`` and ``train_chunk``.
        pool: The feature of an image: ``'avg'``, the student's mean patch token, normalised as before a
            classification head (default); ``'cls'``, its CLS token (DINO); or ``'head'``, what the head of an
            mmpretrain classifier sees, whatever its backbone.
        dtype: Of kept features: ``'float32'`` (default; ImageNet-1K's of a ViT-B: 3.7 GiB) or ``'float16'``.
        **kwargs: See :class:`Evaluator`. The default ``prefix`` is ``'knn'``.
    """

    default_prefix = 'knn'

    def __init__(
        self,
        dataloader: DataLoader,
        train_dataloader: DataLoader,
        ks: Sequence[int] = KS,
        temperature: float = TEMPERATURE,
        pool: str = 'avg',
        dtype: str = 'float32',
        query_chunk: int = 1024,
        train_chunk: int = 32768,
        **kwargs: Any,
    ) -> None:
        super().__init__(dataloader, **kwargs)
        require_same_classes(train_dataloader.dataset, dataloader.dataset)
        require_choice(pool, 'pool', ('avg', 'cls', 'head'))
        self.train_dataloader, self.pool, self.dtype = train_dataloader, pool, getattr(torch, dtype)
        self.options: dict[str, Any] = dict(ks=ks, temperature=temperature)
        self.options |= dict(query_chunk=query_chunk, train_chunk=train_chunk)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Classify the validation images by their nearest training images."""
        found = {}
        for accuracy in self.accuracies(model):
            print_log(str(accuracy), 'current')
            found[f'top1_k{accuracy.k}'] = accuracy.top1
            if accuracy.top5 is not None:
                found[f'top5_k{accuracy.k}'] = accuracy.top5
        return found

    def accuracies(self, model: nn.Module) -> list[KnnAccuracy]:
        """Return the accuracy of each k."""
        train, queries = (self.features(model, loader) for loader in (self.train_dataloader, self.dataloader))
        return knn_accuracy(*train, *queries, device=next(model.parameters()).device, **self.options)

    @torch.no_grad()
    def features(self, model: nn.Module, dataloader: DataLoader) -> tuple[Tensor, Tensor]:
        """Return L2-normalised features ``(N, D)`` and labels ``(N,)`` of this process's share of images."""
        features, labels = [], []
        for number, batch in enumerate(self.batches(model, dataloader), start=1):
            vectors = self._pooled(model, batch['inputs'])
            features.append(F.normalize(vectors.float(), dim=1).to('cpu', self.dtype))
            labels.append(self.labels(batch).cpu())
            if number % max(1, len(dataloader) // 10) == 0:
                print_log(f'Features of {number} of {len(dataloader)} batches', 'current')
        # a process may have no batch, and then does not know the width
        width = max(all_gather_object(features[0].shape[1] if features else 0))
        none = torch.empty(0, width, dtype=self.dtype), torch.empty(0, dtype=torch.long)
        return torch.cat([none[0], *features]), torch.cat([none[1], *labels])

    def _pooled(self, model: Any, images: Tensor) -> Tensor:
        if self.pool == 'head':
            vectors = model.extract_feat(images, stage='pre_logits')
            if not isinstance(vectors, Tensor) or vectors.ndim != 2:
                found = tuple(vectors.shape) if isinstance(vectors, Tensor) else type(vectors).__name__
                raise ValueError(
                    f'k-NN needs one vector (B, D) an image, got {found}: use a classification '
                    "config, with a backbone of out_type='avg_featmap' or 'cls_token'"
                )
            return vectors
        student: Any = student_of(model)
        cls, patches = student.encode_image(images)
        if self.pool == 'avg':
            return F.layer_norm(patches.mean(1), patches.shape[-1:], eps=1e-6)
        if cls is None:
            raise ValueError("the student has no CLS token: use pool='avg'")
        return cls


def feature_datasets(cfg: Config) -> tuple[dict, dict]:
    """Return configs of the training and the validation images, both with the evaluation transforms."""
    parts = [(cfg.get(f'{phase}_dataloader') or {}).get('dataset', {}) for phase in ('train', 'val')]
    if 'head' not in cfg.model or not all('pipeline' in innermost(part) for part in parts):
        raise ValueError(
            'k-NN needs the images and labels of a classification config, such as configs/finetune/'
            f'vitb16_in1k.py, not {cfg.filename}; a checkpoint of pre-training is given beside it'
        )
    train, validation = copy.deepcopy(parts)
    innermost(train)['pipeline'] = copy.deepcopy(innermost(validation)['pipeline'])
    return train, validation


def innermost(dataset: dict) -> dict:
    """Return the config of the dataset that reads images, within a draw of few of them for example."""
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset
