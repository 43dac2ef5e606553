"""Size of a config's network, and cost of one image."""

import warnings
from typing import Any, NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.models import BaseSelfSupervisor
from torch.utils.flop_counter import FlopCounterMode

from ..models.student import task_of


class Complexity(NamedTuple):
    """A metafile's figures of a network."""

    parameters: int  # entries of its parameters, frozen ones included
    flops: int  # multiply-adds of a forward pass of one image, as OpenMMLab's metafiles count them


def complexity(cfg: Config) -> Complexity:
    """Count the parameters and multiply-adds of a config's network, without memory for its weights.

    torch's counter counts matrix products (fused attention too) and convolutions, not norms and activations.
    For pre-training it is the student, on a whole image of the config's size, without neck and teacher. The
    auxiliary head of a segmentor, the text branch of a CLIP and the heads of a detector, whose work depends
    on the image, have parameters, but do not run. Of a prompt learner the parameters are its own, and what
    runs is the frozen image encoder.
    """
    model = Config(cfg.to_dict()).model
    scope = cfg.get('default_scope', 'mmpretrain')
    speaker = model.get('speaker')
    if speaker is not None and 'pretrained' in speaker:
        speaker.pretrained = None  # nothing is downloaded to be counted
    # The teachers and text towers of prompt learners read values of their weights.
    with (
        torch.device('meta' if speaker is None else 'cpu'),
        DefaultScope.overwrite_default_scope(scope),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter('ignore')  # mmseg's losses warn of their defaults
        options: dict[str, Any] = dict(mode='tensor')
        if 'backbone' in model:
            model.backbone.init_cfg = None
            if is_pretraining(model):
                model, options = model.backbone, dict(mask=None)
        network = MODELS.build(model)
        network.eval()  # mmpretrain's own returns nothing
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            if task_of(network) == 'detection':
                network.extract_feat(*_example_inputs(network))
            else:
                network(*_example_inputs(network), **options)
    kept = network.teacher_state() if hasattr(network, 'teacher_state') else dict(network.named_parameters())
    # The counter counts a multiply-add as two.
    return Complexity(sum(value.numel() for value in kept.values()), counter.get_total_flops() // 2)


def is_pretraining(model: ConfigDict) -> bool:
    """Return whether a model's config is a way of pre-training, of which only the student is kept."""
    kind = kind_of(model)
    return getattr(kind, 'task', None) == 'pretraining' or issubclass(kind, BaseSelfSupervisor)


def kind_of(model: ConfigDict) -> type:
    """Return the class of a model's config, in MMEngine's default scope."""
    with MODELS.switch_scope_and_registry(None) as registry:
        return registry.get(model.type)


def _example_inputs(network: Any) -> tuple:
    student = getattr(network, 'backbone', None) or network
    for module in (network, student):
        if hasattr(module, 'example_inputs'):
            return module.example_inputs()
    size = student.img_size  # of mmpretrain's transformers
    return (torch.zeros(1, 3, *((size, size) if isinstance(size, int) else size)),)
