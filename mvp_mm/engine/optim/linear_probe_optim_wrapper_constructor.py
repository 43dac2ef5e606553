"""Parameter groups of a linear probe: a learning rate for each column of classifiers."""

from collections.abc import Callable
from typing import ClassVar

from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from .mvp_optim_wrapper_constructor import MVPOptimWrapperConstructor


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LinearProbeOptimWrapperConstructor(MVPOptimWrapperConstructor):
    """Group the classifiers of ``LinearProbeHead`` by learning rate.

    Weight decay applies to biases too, as in BEiT's run_linear_eval.py. There is no ``paramwise_cfg``: the
    factors on the learning rate are the head's ``lr_multipliers``.

    Raises:
        ValueError: If there is a ``paramwise_cfg``, the model's head is no linear probe, or something
            outside the head would learn.
    """

    paramwise_keys: ClassVar[tuple[str, ...]] = ()

    def _validate_cfg(self) -> None:
        if self.paramwise_cfg:
            raise ValueError(
                f'{type(self).__name__} takes no paramwise_cfg, got {self.paramwise_cfg}: set '
                'model.head.lr_multipliers'
            )

    def _lr_scale_of(self, model: nn.Module) -> Callable[[str], float]:
        head = getattr(model, 'head', None)
        multiplier_of = getattr(head, 'lr_multiplier_of', None)
        if multiplier_of is None:
            raise ValueError(
                f'{type(self).__name__} needs a model whose head is a LinearProbeHead, got '
                f'{type(model).__name__} with a {type(head).__name__}'
            )

        def lr_scale(name: str) -> float:
            if not name.startswith('head.'):
                raise ValueError(
                    f'{name} would be trained, but a linear probe leaves the backbone as it is: set '
                    'model.backbone.frozen_stages to its number of blocks'
                )
            return multiplier_of(name.removeprefix('head.'))

        return lr_scale

    def _decays(self, name: str, ndim: int) -> bool:
        return True
