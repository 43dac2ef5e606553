"""A linear classifier of frozen features.

Shape legend: N samples, D feature width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)

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


def class_and_mean(tokens: Tensor) -> Tensor:
    """CLS beside the mean of the patches (BEiT's probe), ``(B, 1+M, C)`` to ``(B, 2C)``."""
    return torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=1)
