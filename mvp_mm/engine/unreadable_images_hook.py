"""Count, list and bound the images that could not be read."""

import logging
from pathlib import Path

import torch
from mmengine.dist import (
    all_gather_object,
    all_reduce,
    broadcast_object_list,
    is_distributed,
    is_main_process,
)
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..datasets.load_rgb_image import UnreadableImageError
from .safe_checkpoint import write_pointer


@HOOKS.register_module()
class UnreadableImagesHook(Hook):
    """Write unreadable images to ``<work_dir>/bad_images.txt``, and stop a run that has too many.

    The dataset has already put another image in the place of each (see :class:`UnlabelledImages`).

    Args:
        max_share: Largest share of the dataset's images that may be unreadable. Default 0.1.

    Raises:
        UnreadableImageError: While training, once the share is exceeded.
    """

    def __init__(self, max_share: float = 0.1) -> None:
        if not 0 <= max_share <= 1:
            raise ValueError(f'max_share={max_share} is no share between 0 and 1')
        self.max_share = max_share
        self.reasons: dict[str, str] = {}

    def before_train(self, runner: Runner) -> None:
        """Take up the list of the run that is resumed."""
        path = self._list_path(runner)
        # Read by one process, which is the only one to write it. Else it is the list of another run, perhaps
        # of other images.
        if is_main_process() and runner._resume and path.is_file():
            lines = path.read_text().splitlines()
            self.reasons = dict(line.split('\t', 1) for line in lines if '\t' in line)
        found = [self.reasons]
        broadcast_object_list(found)
        self.reasons = found[0]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Note what this batch could not read, of all processes."""
        new = {
            path: ' '.join(reason.split())
            for sample in data_batch.get('data_samples', ())
            for path, reason in sample.get('unreadable', ())
            if path not in self.reasons
        }
        new = _of_all_processes(new)
        if not new:
            return
        for path, reason in new.items():
            runner.logger.warning(f'Unreadable image replaced by another: {path} ({reason})')
        self.reasons.update(new)
        if is_main_process():
            self._write(runner)
        self._check_share(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Say how many there are."""
        if self.reasons:
            runner.logger.log(
                logging.WARNING,
                f'{len(self.reasons)} unreadable images so far, listed in {self._list_path(runner)}',
            )

    @staticmethod
    def _list_path(runner: Runner) -> Path:
        return Path(runner.work_dir) / 'bad_images.txt'

    def _write(self, runner: Runner) -> None:
        lines = [f'{path}\t{reason}\n' for path, reason in sorted(self.reasons.items())]
        try:
            write_pointer(self._list_path(runner), ''.join(lines))
        except OSError as error:
            runner.logger.error(f'{self._list_path(runner)} could not be written ({error})')

    def _check_share(self, runner: Runner) -> None:
        size = len(runner.train_dataloader.dataset)
        if len(self.reasons) > self.max_share * size:
            raise UnreadableImageError(
                f'{len(self.reasons)} of {size} images cannot be read, more than the allowed share of '
                f'{self.max_share:g} (UnreadableImagesHook.max_share). They are listed in '
                f'{self._list_path(runner)}'
            )


def _of_all_processes(new: dict[str, str]) -> dict[str, str]:
    """What any process has found; where none has, which is the rule, one number is exchanged."""
    if not is_distributed():
        return new
    number = torch.tensor(len(new))
    all_reduce(number)
    if not number:
        return {}
    return {path: reason for part in all_gather_object(new) for path, reason in part.items()}
