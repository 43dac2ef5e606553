"""Parameter groups of BEiT's recipes: who gets weight decay, and how the learning rate falls with depth."""

import logging
from collections.abc import Callable, Sequence
from typing import ClassVar

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

NO_DECAY_TOKENS = ('cls_token', 'pos_embed')
FUSED = ('Adam', 'AdamW')  # torch's, which have a fused kernel on CPU, CUDA and others


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MVPOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Group parameters by weight decay and layer-wise learning rate, as BEiT does.

    No weight decay on 1-d parameters (norms, layer scale), biases, CLS token and absolute positions; the
    mask token and the bias tables do decay. Parameters of equal settings share a group, so that the
    optimiser's fused kernels run over few long lists. Adam and AdamW are built with ``fused=True`` unless
    the config says otherwise: one pass over the weights, on a CPU too.

    ``paramwise_cfg`` takes one key, ``layer_decay_rate``: a parameter at depth d of D depths learns at
    ``rate ** (D - 1 - d)`` of the learning rate. Default 1 (pre-training). Depths come from the model's
    or its backbone's ``get_layer_depth``.

    Raises:
        ValueError: If ``paramwise_cfg`` has another key, or the decay rate is not in (0, 1].
    """

    # What ``paramwise_cfg`` may hold.
    paramwise_keys: ClassVar[tuple[str, ...]] = ('layer_decay_rate',)

    def _validate_cfg(self) -> None:
        unknown = set(self.paramwise_cfg) - set(self.paramwise_keys)
        if unknown:
            raise ValueError(
                f'{type(self).__name__} takes paramwise_cfg.layer_decay_rate only, got {sorted(unknown)}'
            )
        rate = self.paramwise_cfg.get('layer_decay_rate', 1.0)
        if not 0 < rate <= 1:
            raise ValueError(f'layer_decay_rate={rate} is not in (0, 1]')

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimiser and its wrapper for a model."""
        whole = _whole_dimensions(model)
        groups = self.param_groups(getattr(model, 'module', model), whole)
        settings = dict(self.optimizer_cfg, params=list(groups.values()))
        if settings['type'] in FUSED and not {'fused', 'foreach'} & set(settings):
            settings['fused'] = True
        optimizer = OPTIMIZERS.build(settings)
        for group in groups.values():
            message = (
                f'Parameter group: {len(group["params"])} tensors, learning rate {group["lr"]:.4g}, '
                f'weight decay {group["weight_decay"]:g}'
            )
            print_log(message, 'current', logging.INFO)
        config = dict(self.optim_wrapper_cfg)
        config.setdefault('type', 'OptimWrapper')
        return OPTIM_WRAPPERS.build(config, default_args=dict(optimizer=optimizer))

    def param_groups(
        self, model: nn.Module, dimensions: Sequence[int] | None = None
    ) -> dict[tuple[int, bool], dict]:
        """Groups by (depth, whether they decay): ``params``, ``lr``, ``lr_scale``, ``weight_decay``.

        Args:
            model: Whose parameters.
            dimensions: Of the parameters, in their order. Default None: those that they have now.

        Returns:
            The groups.
        """
        if dimensions is None:
            dimensions = [param.ndim for param in model.parameters()]
        rate = self.paramwise_cfg.get('layer_decay_rate', 1.0)
        depth_of = _depth_function(model) if rate < 1 else lambda name: (0, 1)
        groups: dict[tuple[int, bool], dict] = {}
        for (name, param), ndim in zip(model.named_parameters(), dimensions, strict=True):
            if not param.requires_grad:
                continue
            name = name.replace('_fsdp_wrapped_module.', '')
            depth, num_depths = depth_of(name)
            decays = _decays(name, ndim)
            scale = rate ** (num_depths - 1 - depth)
            group = groups.setdefault(
                (depth, decays),
                dict(
                    params=[],
                    lr=self.base_lr * scale,
                    lr_scale=scale,
                    weight_decay=(self.base_wd or 0.0) if decays else 0.0,
                ),
            )
            group['params'].append(param)
        return groups


def _whole_dimensions(model: nn.Module) -> list[int] | None:
    """Of parameters that are sharded, and so one long row each, the dimensions that they really have."""
    if not isinstance(model, FullyShardedDataParallel):
        return None
    with FullyShardedDataParallel.summon_full_params(model, writeback=False):
        return [param.ndim for param in model.module.parameters()]


def _decays(name: str, ndim: int) -> bool:
    last = name.rsplit('.', 1)[-1]
    return ndim > 1 and last != 'bias' and last not in NO_DECAY_TOKENS


def _depth_function(model: nn.Module) -> Callable[[str], tuple[int, int]]:
    if hasattr(model, 'get_layer_depth'):
        return model.get_layer_depth
    backbone = getattr(model, 'backbone', None)
    if not hasattr(backbone, 'get_layer_depth'):
        raise ValueError(
            f'layer_decay_rate needs a model or backbone with get_layer_depth; {type(model).__name__} with '
            f'a {type(backbone).__name__} has none. Use MVPViT'
        )
    return lambda name: backbone.get_layer_depth(name, 'backbone.')
