"""Count, list and bound the images that could not be read."""

import logging
from pathlib import Path

from mmengine.dist import broadcast_object_list, is_distributed, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...datasets.transforms.load_rgb_image import UnreadableImageError
from ..checkpoint.safe_checkpoint import atomic_write_text
from ..distributed.collectives import DelayedAllReduce, all_gather


@HOOKS.register_module()
class UnreadableImagesHook(Hook):
    """Write unreadable images to ``<work_dir>/bad_images.txt``, and stop a run that has too many.

    The dataset has already put another image in the place of each (see :class:`UnlabelledImages`). Several
    processes hear of each other's a step later, before a checkpoint, or at the end of the epoch.

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
        self._found: dict[str, str] = {}  # by this process, and not yet known to the others
        self._agreement = DelayedAllReduce('sum')
        self._checked = 0

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
        self._checked = len(self.reasons)

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
        if not is_distributed():
            self._note(runner, new)
        else:
            number, found, self._found = self._agreement.exchange(len(new)), self._found, new
            if number:
                self._note(runner, _together(found))
        self._check_share(runner)

    def before_joint_checkpoint(self, runner: Runner) -> None:
        """Note what the last batch could not read: a run that goes on from here does not read it again."""
        number, found, self._found = self._agreement.settle(), self._found, {}
        if number:
            self._note(runner, _together(found))

    def after_train_epoch(self, runner: Runner) -> None:
        """Say how many there are."""
        self.before_joint_checkpoint(runner)
        self._check_share(runner)
        if self.reasons:
            runner.logger.log(
                logging.WARNING,
                f'{len(self.reasons)} unreadable images so far, listed in {self._list_path(runner)}',
            )

    def _note(self, runner: Runner, found: dict[str, str]) -> None:
        new = {path: reason for path, reason in found.items() if path not in self.reasons}
        if not new:
            return
        for path, reason in new.items():
            runner.logger.warning(f'Unreadable image replaced by another: {path} ({reason})')
        self.reasons.update(new)
        if is_main_process():
            self._write(runner)

    @staticmethod
    def _list_path(runner: Runner) -> Path:
        return Path(runner.work_dir) / 'bad_images.txt'

    def _write(self, runner: Runner) -> None:
        lines = [f'{path}\t{reason}\n' for path, reason in sorted(self.reasons.items())]
        try:
            atomic_write_text(self._list_path(runner), ''.join(lines))
        except OSError as error:
            runner.logger.error(f'{self._list_path(runner)} could not be written ({error})')

    def _check_share(self, runner: Runner) -> None:
        if len(self.reasons) == self._checked:
            return
        self._checked = len(self.reasons)
        size = len(runner.train_dataloader.dataset)
        if len(self.reasons) > self.max_share * size:
            raise UnreadableImageError(
                f'{len(self.reasons)} of {size} images cannot be read, more than the allowed share of '
                f'{self.max_share:g} (UnreadableImagesHook.max_share). They are listed in '
                f'{self._list_path(runner)}'
            )


def _together(found: dict[str, str]) -> dict[str, str]:
    """What all processes have found."""
    return {path: reason for part in all_gather(found) for path, reason in part.items()}
