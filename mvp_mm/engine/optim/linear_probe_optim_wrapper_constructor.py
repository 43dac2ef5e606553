from typing import Any, ClassVar

from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS

from .mvp_optim_wrapper_constructor import MVPOptimWrapperConstructor


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LinearProbeOptimWrapperConstructor(MVPOptimWrapperConstructor):
    """Group the classifiers of ``LinearProbeHead`` by learning rate, its ``lr_multipliers``.

    Weight decay applies to biases too, as in BEiT's run_linear_eval.py. A ``paramwise_cfg``, another head, or
    parameters that learn outside of it are a ValueError.
    """

    paramwise_keys: ClassVar[tuple[str, ...]] = ()

    def _validate_cfg(self) -> None:
        if self.paramwise_cfg:
            raise ValueError(f'{type(self).__name__} takes no paramwise_cfg: set model.head.lr_multipliers')

    def _lr_scale(self, model: Any, name: str) -> float:
        head: Any = getattr(model, 'head', None)
        if not hasattr(head, 'lr_multiplier_of'):
            raise ValueError(f'{type(self).__name__} needs a LinearProbeHead, got a {type(head).__name__}')
        if not name.startswith('head.'):
            advice = 'set model.backbone.frozen_stages to its number of blocks'
            raise ValueError(f'{name} would be trained, which a linear probe leaves as it is: {advice}')
        return head.lr_multiplier_of(name.removeprefix('head.'))

    def _decays(self, name: str, ndim: int) -> bool:
        return True
