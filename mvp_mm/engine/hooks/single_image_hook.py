from collections.abc import Sized
from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader
from torch.utils.hooks import RemovableHandle

TORCH_MESSAGE = 'Expected more than 1 value per channel when training'


@HOOKS.register_module()
class SingleImageHook(Hook):
    """End a run in its first iteration if batch normalisation would fail in the last one of the epoch.

    Without ``drop_last`` the last batch may have one image. Batch normalisation fails (ValueError) if it gets
    one value of each image and channel, as behind global pooling; the first batch shows whether it does.
    """

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []
        self._would_fail = False

    def before_train(self, runner: Runner) -> None:
        """Watch batch normalisation, if there is such a last batch."""
        for module in runner.model.modules() if _leaves_one(runner.train_dataloader) else ():
            synchronised = isinstance(module, nn.SyncBatchNorm) and get_world_size() > 1
            if isinstance(module, _BatchNorm) and not synchronised:
                self._handles.append(module.register_forward_pre_hook(self._look))

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if self._would_fail:
            raise ValueError(single_value_message(runner.train_dataloader))

    def _look(self, module: nn.Module, inputs: tuple) -> None:
        images, channels = inputs[0].shape[:2]
        self._would_fail |= module.training and inputs[0].numel() == images * channels


def single_value_message(loader: DataLoader) -> str:
    """Say what to do where batch normalisation gets one value a channel in training."""
    why = 'batch normalisation would have one value a channel, which has no variance'
    if images := _leaves_one(loader):
        last = f'the last batch of an epoch has one image ({images} images in batches of {loader.batch_size})'
        return f'{last}, and {why}: set train_dataloader.drop_last=True, or another batch_size'
    key = 'train_dataloader.batch_size'
    return f'{key}={loader.batch_size}, and {why}: use {key}=2, for example'


def _leaves_one(loader: DataLoader) -> int:
    """Return the number of images if the last batch of an epoch has one and others have more, else 0."""
    size, sampler = loader.batch_size or 1, loader.sampler
    if size == 1 or loader.drop_last or isinstance(sampler, InfiniteSampler):
        return 0
    images = len(sampler) if isinstance(sampler, Sized) else 0
    return images if images % size == 1 else 0
