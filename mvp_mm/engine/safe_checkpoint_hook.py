"""MMEngine's checkpoint hook, which never gives up a good checkpoint before the next one is safe."""

import copy
from collections import deque
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from .safe_checkpoint import remove_partial, write_pointer

# What MMEngine calls the paths and scores of the best checkpoint, in the message hub and in the hook.
BEST = ('best_ckpt', 'best_score')


class _LaterRemoval:
    """A file backend that notes what is to be removed instead of removing it."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.removed: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        """Note a file."""
        self.removed.append(path)

    def rmtree(self, path: str) -> None:
        """Note a folder."""
        self.removed.append(path)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook``, with its arguments, for disks that fill up and runs that are killed.

    MMEngine removes the oldest checkpoint before it writes the new one. Here the new one is written and
    checked first, then ``last_checkpoint`` names it, then the oldest goes. A checkpoint that cannot be
    written is an error in the log, not the end of the training; what there was is kept, and the next one
    is tried at its time. :class:`MVPRunner` takes this hook wherever a config says ``CheckpointHook``.

    Raises:
        OSError: After training, if its last checkpoint could not be written.
    """

    _failure: OSError | None = None

    def before_train(self, runner: Runner) -> None:
        """Find out where checkpoints go, and remove what a killed run has left half-written."""
        super().before_train(runner)
        if is_main_process() and Path(self.out_dir).is_dir():
            remove_partial(Path(self.out_dir))

    def after_train(self, runner: Runner) -> None:
        """Publish, or tell that the end of the training is not saved."""
        if self._failure is not None:
            raise OSError(
                f'the last checkpoint of this training could not be written ({self._failure}); '
                f'{_last_good(runner)}. Make room, and go on from there with --resume'
            ) from self._failure
        super().after_train(runner)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        hub = runner.message_hub
        path = self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))
        before = _taken(hub.runtime_info, ('last_ckpt', 'keep_ckpt_ids'))
        outdated: list[int] = []
        if self.max_keep_ckpts > 0:
            kept = [number for number in self.keep_ckpt_ids if number != step] + [step]
            outdated, kept = kept[: -self.max_keep_ckpts], kept[-self.max_keep_ckpts :]
            hub.update_info('keep_ckpt_ids', kept)
        hub.update_info('last_ckpt', path)
        try:
            self._write(runner, Path(path).name, meta)
            if is_main_process():
                write_pointer(Path(runner.work_dir) / 'last_checkpoint', path)
        except OSError as error:
            _put_back(hub.runtime_info, ('last_ckpt', 'keep_ckpt_ids'), before)
            self._failure = error
            runner.logger.error(
                f'The checkpoint {path} could not be written ({error}). Training goes on; '
                f'{_last_good(runner)}, and the next one is tried at its time. Make room, or '
                'make the folder writable'
            )
            return
        self._failure = None
        self.last_ckpt = path
        if self.max_keep_ckpts > 0:
            self.keep_ckpt_ids = deque(kept, self.max_keep_ckpts)
            self._remove(runner, [self.filename_tmpl.format(number) for number in outdated])

    def _write(self, runner: Runner, name: str, meta: dict) -> None:
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )

    def _remove(self, runner: Runner, names: list[str]) -> None:
        if not is_main_process():
            return
        for name in names:
            path = self.file_backend.join_path(self.out_dir, name)
            try:
                if self.file_backend.isfile(path):
                    self.file_backend.remove(path)
                elif self.file_backend.isdir(path):
                    self.file_backend.rmtree(path)
            except OSError as error:
                runner.logger.warning(f'The outdated checkpoint {path} could not be removed ({error})')

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """MMEngine's, which removes the previous best first; here that waits until the new one is safe."""
        if not self.save_best:
            return
        info, backend = runner.message_hub.runtime_info, self.file_backend
        before = _taken(info, BEST), _taken(vars(self), BEST)
        later = self.file_backend = _LaterRemoval(backend)
        try:
            super()._save_best_checkpoint(runner, metrics)
        except OSError as error:
            _put_back(info, BEST, before[0])
            _put_back(vars(self), BEST, before[1])
            runner.logger.error(f'The best checkpoint so far could not be written ({error})')
            return
        finally:
            self.file_backend = backend
        now = {getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()}
        self._remove(runner, [Path(path).name for path in later.removed if path not in now])


def _taken(info: dict, prefixes: tuple[str, ...]) -> dict:
    """A copy of the entries whose names begin so."""
    return {key: copy.copy(value) for key, value in info.items() if key.startswith(prefixes)}


def _put_back(info: dict, prefixes: tuple[str, ...], taken: dict) -> None:
    """Make these entries what they were."""
    for key in [key for key in info if key.startswith(prefixes)]:
        del info[key]
    info.update(taken)


def _last_good(runner: Runner) -> str:
    last = runner.message_hub.get_info('last_ckpt', None)
    return f'the last good one is {last}' if last else 'there is no good one yet'
