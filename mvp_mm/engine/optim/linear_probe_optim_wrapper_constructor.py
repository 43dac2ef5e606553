"""Parameter groups of a linear probe: a learning rate for each column of classifiers."""

from collections.abc import Sequence
from typing import ClassVar

from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from .layer_decay import MVPOptimWrapperConstructor


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LinearProbeOptimWrapperConstructor(MVPOptimWrapperConstructor):
    """Group the classifiers of ``LinearProbeHead`` by learning rate.

    The optimiser's weight decay falls on biases too, as in BEiT's run_linear_eval.py. It takes no
    ``paramwise_cfg``: the factors on the learning rate are the head's ``lr_multipliers``.

    Raises:
        ValueError: If there is a ``paramwise_cfg``, the model's head is no linear probe, or something
            outside of the head would learn.
    """

    paramwise_keys: ClassVar[tuple[str, ...]] = ()

    def _validate_cfg(self) -> None:
        if self.paramwise_cfg:
            raise ValueError(
                f'{type(self).__name__} takes no paramwise_cfg, got {self.paramwise_cfg}: set '
                'model.head.lr_multipliers'
            )

    def param_groups(self, model: nn.Module, dimensions: Sequence[int] | None = None) -> dict[float, dict]:
        """Groups by factor: ``params``, ``lr``, ``lr_scale``, ``weight_decay``; dimensions do not matter."""
        head = getattr(model, 'head', None)
        if not hasattr(head, 'lr_multiplier_of'):
            raise ValueError(
                f'{type(self).__name__} needs a model whose head is a LinearProbeHead, got '
                f'{type(model).__name__} with a {type(head).__name__}'
            )
        groups: dict[float, dict] = {}
        for name, param in model.named_parameters():
            if not param.requires_grad:
                continue
            if not name.startswith('head.'):
                raise ValueError(
                    f'{name} would be trained, but a linear probe leaves the backbone as it is: set '
                    'model.backbone.frozen_stages to its number of blocks'
                )
            factor = head.lr_multiplier_of(name.removeprefix('head.'))
            group = groups.setdefault(
                factor,
                dict(
                    params=[],
                    lr=self.base_lr * factor,
                    lr_scale=factor,
                    weight_decay=self.base_wd or 0.0,
                ),
            )
            group['params'].append(param)
        return groups
