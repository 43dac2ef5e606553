from collections.abc import Sequence
from typing import Any, ClassVar

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
    mask token and the bias tables do decay. Parameters of equal settings share a group, so that fused kernels
    run over few long lists. Adam and AdamW are built with ``fused=True`` unless the config says otherwise.

    ``paramwise_cfg`` takes one key, ``layer_decay_rate``: a parameter at depth d of D depths learns at
    ``rate ** (D - 1 - d)`` of the learning rate. Default 1 (pre-training). Depths come from the model's
    or its backbone's ``get_layer_depth``.

    Raises:
        ValueError: If ``paramwise_cfg`` has another key, or the decay rate is not in (0, 1].
    """

    paramwise_keys: ClassVar[tuple[str, ...]] = ('layer_decay_rate',)  # of ``paramwise_cfg``

    def _validate_cfg(self) -> None:
        unknown = set(self.paramwise_cfg) - set(self.paramwise_keys)
        if unknown:
            raise ValueError(f'paramwise_cfg takes layer_decay_rate only, got {sorted(unknown)}')
        rate = self.paramwise_cfg.get('layer_decay_rate', 1.0)
        if not 0 < rate <= 1:
            raise ValueError(f'layer_decay_rate={rate} is not in (0, 1]')

    def __call__(self, model: nn.Module) -> OptimWrapper:
        groups = self.param_groups(getattr(model, 'module', model), _unsharded_dimensions(model))
        settings = dict(self.optimizer_cfg, params=groups)
        if settings['type'] in FUSED and not {'fused', 'foreach'} & set(settings):
            settings['fused'] = True
        optimizer = OPTIMIZERS.build(settings)
        for group in groups:
            rates = f'learning rate {group["lr"]:.4g}, weight decay {group["weight_decay"]:g}'
            print_log(f'Parameter group: {len(group["params"])} tensors, {rates}', 'current')
        config = dict(dict(type='OptimWrapper'), **self.optim_wrapper_cfg)
        return OPTIM_WRAPPERS.build(config, default_args=dict(optimizer=optimizer))

    def param_groups(self, model: nn.Module, dimensions: Sequence[int] | None = None) -> list[dict]:
        """Group the parameters that learn; ``dimensions`` are those before sharding, if there is any."""
        dimensions = dimensions or [param.ndim for param in model.parameters()]
        groups: dict[tuple[float, bool], dict] = {}
        for (name, param), ndim in zip(model.named_parameters(), dimensions, strict=True):
            if not param.requires_grad:
                continue
            name = name.replace('_fsdp_wrapped_module.', '')
            scale, decays = self._lr_scale(model, name), self._decays(name, ndim)
            decay = (self.base_wd or 0.0) if decays else 0.0
            group = dict(params=[], lr=self.base_lr * scale, lr_scale=scale, weight_decay=decay)
            groups.setdefault((scale, decays), group)['params'].append(param)
        return list(groups.values())

    def _lr_scale(self, model: Any, name: str) -> float:
        """Return the factor on a parameter's learning rate."""
        rate = self.paramwise_cfg.get('layer_decay_rate', 1.0)
        if rate == 1:
            return 1.0
        backbone: Any = getattr(model, 'backbone', None)
        if hasattr(model, 'get_layer_depth'):
            depth, num_depths = model.get_layer_depth(name)
        elif hasattr(backbone, 'get_layer_depth'):
            depth, num_depths = backbone.get_layer_depth(name, prefix='backbone.')
        else:
            raise ValueError(
                f'layer_decay_rate needs a model or backbone with get_layer_depth; {type(model).__name__} '
                f'with a {type(backbone).__name__} has none. Use MVPViT'
            )
        return rate ** (num_depths - 1 - depth)

    def _decays(self, name: str, ndim: int) -> bool:
        last = name.rsplit('.', 1)[-1]
        return ndim > 1 and last != 'bias' and last not in NO_DECAY_TOKENS


def _unsharded_dimensions(model: nn.Module) -> list[int] | None:
    """Return the parameters' dimensions before FSDP flattened each into a row, or None without FSDP."""
    if not isinstance(model, FullyShardedDataParallel):
        return None
    with FullyShardedDataParallel.summon_full_params(model, writeback=False):
        return [param.ndim for param in model.module.parameters()]
