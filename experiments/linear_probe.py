"""A linear classifier and k-NN of frozen features.

Shape legend: N samples, D feature width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mvp_mm.evaluation.knn import knn_accuracy

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
NEIGHBOURS = 20
MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)

Split = tuple[Tensor, Tensor]  # features (N, D) and int64 labels (N,)


class Standardised(nn.Module):
    """Subtract the mean and divide by the standard deviation of the training features."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.mean, self.std = features.mean(0), features.std(0) + 1e-6

    def forward(self, features: Tensor) -> Tensor:
        """Standardise ``(N, D)``."""
        return (features - self.mean) / self.std


def fit_probe(train: Split, num_classes: int, penalty: float) -> nn.Module:
    """Fit a multinomial logistic regression on standardised features, by L-BFGS."""
    scale = Standardised(train[0])
    features, labels = scale(train[0]), train[1]
    layer = nn.Linear(features.shape[1], num_classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=150, line_search_fn='strong_wolfe')

    def objective() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(layer(features), labels) + penalty * layer.weight.square().sum() / 2
        loss.backward()
        return loss

    optimiser.step(objective)
    return nn.Sequential(scale, layer)


@torch.no_grad()
def accuracy(probe: nn.Module, split: Split) -> float:
    """Percent of the samples whose class it gives the largest score."""
    return 100 * (probe(split[0]).argmax(1) == split[1]).double().mean().item()


def best_penalty(train: Split, val: Split, num_classes: int) -> float:
    """The penalty on the weights by which validation samples are classified best."""
    return max(PENALTIES, key=lambda penalty: accuracy(fit_probe(train, num_classes, penalty), val))


def nearest_accuracy(train: Split, test: Split) -> float:
    """Percent of the test samples that 20 neighbours classify rightly, without anything to choose."""
    unit_train, unit_test = (F.normalize(features, dim=1) for features, _ in (train, test))
    (nearest,) = knn_accuracy(unit_train, train[1], unit_test, test[1], ks=(NEIGHBOURS,))
    return nearest.top1


def normalised(images: Tensor) -> Tensor:
    """Normalise images ``(B, 3, H, W)``, 0-255, by ImageNet's statistics: float32."""
    return (images - MEAN) / STD


def class_and_mean(tokens: Tensor) -> Tensor:
    """CLS beside the mean of the patches (BEiT's probe), ``(B, 1+M, C)`` to ``(B, 2C)``."""
    return torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=1)
