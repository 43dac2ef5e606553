from pathlib import Path
from typing import Any

from mmengine.dist import is_distributed, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...datasets.transforms.decode_image import UnreadableImageError
from ...wording import counted
from ..checkpoint.safe_checkpoint import atomic_write_text
from ..distributed.collectives import DelayedAllReduce, all_gather

MAX_SHARE = 0.1  # of all images, beyond which a run stops


@HOOKS.register_module()
class UnreadableImagesHook(Hook):
    """Write unreadable images to ``<work_dir>/bad_images.txt``, and stop a run that has too many.

    The dataset has already replaced each (see :class:`UnlabelledImages`). Several processes learn of each
    other's one step later, before a checkpoint, or at the end of the epoch.

    Args:
        max_share: Above this share training ends with :class:`UnreadableImageError`. Default 0.1.
    """

    def __init__(self, max_share: float = MAX_SHARE) -> None:
        if not 0 <= max_share <= 1:
            raise ValueError(f'max_share={max_share} is no share between 0 and 1')
        self.max_share = max_share
        self.reasons: dict[str, str] = {}
        self._found: dict[str, str] = {}  # by this process, unknown to the others
        self._agreement = DelayedAllReduce('sum')
        self._checked = 0

    def before_train(self, runner: Runner) -> None:
        """Read the list of the run that is resumed."""
        self._path = Path(runner.work_dir) / 'bad_images.txt'
        # Only the process that writes it reads it. Without --resume it is another run's.
        if is_main_process() and runner._resume and self._path.is_file():
            lines = self._path.read_text(errors='surrogateescape').splitlines()
            self.reasons = dict(line.split('\t', 1) for line in lines if '\t' in line)
        self.reasons = all_gather(self.reasons)[0]
        self._checked = len(self.reasons)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any, outputs: Any = None) -> None:
        """Record which images of this batch could not be read, in all processes."""
        new = {
            path: ' '.join(reason.split())
            for sample in data_batch.get('data_samples', ())
            for path, reason in sample.get('unreadable', ())
            if path not in self.reasons
        }
        # alone, a process learns of this batch's at once
        found, self._found = (self._found, new) if is_distributed() else (new, {})
        self._note(runner, self._agreement.exchange(len(new)), found)
        self._check_share(runner)

    def before_joint_checkpoint(self, runner: Runner) -> None:
        """Record the last batch's: a run that resumes from here does not read it again."""
        found, self._found = self._found, {}
        self._note(runner, self._agreement.settle(), found)

    def after_train_epoch(self, runner: Runner) -> None:
        self.before_joint_checkpoint(runner)
        self._check_share(runner)
        if number := len(self.reasons):
            runner.logger.warning(f'{counted(number, "unreadable image")} so far, listed in {self._path}')

    def _note(self, runner: Runner, number: int, found: dict[str, str]) -> None:
        """Record what any process has found, if their ``number`` in all is not 0."""
        together = all_gather(found) if number else []
        new = {path: why for part in together for path, why in part.items() if path not in self.reasons}
        for path, reason in new.items():
            runner.logger.warning(f'Unreadable image replaced by another: {path} ({reason})')
        self.reasons.update(new)
        if new and is_main_process():
            lines = [f'{path}\t{reason}\n' for path, reason in sorted(self.reasons.items())]
            try:
                atomic_write_text(self._path, ''.join(lines))
            except OSError as error:
                runner.logger.error(f'{self._path} could not be written ({error})')

    def _check_share(self, runner: Runner) -> None:
        number, before, self._checked = len(self.reasons), self._checked, len(self.reasons)
        if number > before and number > self.max_share * (size := len(runner.train_dataloader.dataset)):
            raise UnreadableImageError(
                f'{number} of {size} images cannot be read, more than the allowed share of '
                f'{self.max_share:g} (UnreadableImagesHook.max_share): see {self._path}'
            )
