"""MMEngine's checkpoint hook, which never gives up a good checkpoint before the next one is safe."""

import copy
from collections import deque
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from .exact_resume import ExactResume, at_step_boundary
from .safe_checkpoint import atomic_write_text, remove_partial

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
    written is an error in the log, not the end of the training; what there was is kept, and it is tried again
    soon (``retry_interval``), between epochs too. A checkpoint holds what an exact restart needs
    (:class:`ExactResume`), and is written after an optimiser step only, because gradients that are being
    accumulated are not saved. :class:`MVPRunner` takes this hook wherever a config says ``CheckpointHook``.

    Args:
        *args: MMEngine's.
        retry_interval: Iterations after which a checkpoint that could not be written is tried again. Default
            100.
        **kwargs: MMEngine's.

    Raises:
        ValueError: If ``retry_interval`` is below 1.
        OSError: After training, if its last checkpoint could not be written.
    """

    _failure: str | None = None
    _failed_at = 0
    _saved_at: int | None = None
    _is_due = False
    _postponed: list[tuple[int, dict]] | None = None  # while the best one is being saved

    def __init__(self, *args, retry_interval: int = 100, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if retry_interval < 1:
            raise ValueError(f'retry_interval={retry_interval} is no number of iterations: give 1 or more')
        self.retry_interval = retry_interval

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
            )
        super().after_train(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Save after an optimiser step, if it is time, or time to try again."""
        if not self.by_epoch:
            at_interval = self.every_n_train_iters(runner, self.interval, self.save_begin)
            self._is_due |= at_interval or (self.save_last and self.is_last_train_iter(runner))
        if not at_step_boundary(runner):
            return
        if self._is_due:
            self._is_due = False
            runner.logger.info(f'Saving checkpoint at {runner.iter + 1} iterations')
            self._save_checkpoint(runner)
        elif self._failure is not None and runner.iter + 1 - self._failed_at >= self.retry_interval:
            self.save_now(runner, runner.iter + 1)

    def after_val_epoch(self, runner: Runner, metrics: dict) -> None:
        """Save the best, and note that this validation need not be made up for."""
        runner.message_hub.update_info('iter_of_validation', runner.iter)
        super().after_val_epoch(runner, metrics)

    def save_now(self, runner: Runner, iteration: int) -> bool:
        """Save a checkpoint between the regular ones; called by all processes together.

        Where checkpoints count epochs, it is ``iter_<iteration>.pth``, and goes when the next regular one is
        safe.

        Args:
            runner: The runner.
            iteration: Iterations that are done.

        Returns:
            Whether it could be written; if not, the log has said so.
        """
        if self._saved_at == iteration:
            return True
        meta = dict(epoch=runner.epoch, iter=iteration)
        if not self.by_epoch:
            self._save_checkpoint_with_step(runner, iteration, meta)
        else:
            name = f'iter_{iteration}.pth'
            outdated = self._extra(runner)
            if self._save(runner, name, meta, extra_ckpt=name):
                self._remove(runner, [other for other in outdated if other != name])
        return self._failure is None

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        if self._postponed is not None:
            self._postponed.append((step, meta))
            return
        info: dict = dict(extra_ckpt=None)
        outdated = self._extra(runner)
        if self.max_keep_ckpts > 0:
            kept = [number for number in self.keep_ckpt_ids if number != step] + [step]
            outdated += [self.filename_tmpl.format(number) for number in kept[: -self.max_keep_ckpts]]
            info['keep_ckpt_ids'] = kept[-self.max_keep_ckpts :]
        if self._save(runner, self.filename_tmpl.format(step), meta, **info):
            if self.max_keep_ckpts > 0:
                self.keep_ckpt_ids = deque(info['keep_ckpt_ids'], self.max_keep_ckpts)
            self._remove(runner, outdated)

    @staticmethod
    def _extra(runner: Runner) -> list[str]:
        """The checkpoint that :meth:`save_now` has written between the regular ones, if there is one."""
        name = runner.message_hub.get_info('extra_ckpt', None)
        return [name] if name else []

    def _save(self, runner: Runner, name: str, meta: dict, **info: Any) -> bool:
        """Write a checkpoint and the pointer to it; ``info`` goes into the message hub.

        Hooks that have a ``before_joint_checkpoint`` are called first, in all processes.
        """
        runner.call_hook('before_joint_checkpoint')
        hub = runner.message_hub
        path = self.file_backend.join_path(self.out_dir, name)
        info = dict(info, last_ckpt=path)
        before = _taken(hub.runtime_info, tuple(info))
        hub.update_info_dict(info)
        if isinstance(runner.train_loop, ExactResume):
            meta['restart'] = runner.train_loop.restart_state()
        failure: list[str | None] = [None]
        try:
            self._write(runner, name, meta)
            if is_main_process():
                atomic_write_text(Path(runner.work_dir) / 'last_checkpoint', path)
        except OSError as error:
            failure = [str(error)]
        broadcast_object_list(failure)  # only the first process writes
        self._failure = failure[0]
        if self._failure is None:
            self.last_ckpt = path
            self._saved_at = meta['iter']
            return True
        _put_back(hub.runtime_info, tuple(info), before)
        self._failed_at = meta['iter']
        runner.logger.error(
            f'The checkpoint {path} could not be written ({self._failure}). Training goes on; '
            f'{_last_good(runner)}, and it is tried again after {self.retry_interval} iterations. Make '
            'room, or make the folder writable'
        )
        return False

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
        self._postponed = again = []
        failure: list[str | None] = [None]
        try:
            super()._save_best_checkpoint(runner, metrics)
        except OSError as error:
            failure = [str(error)]
        finally:
            self.file_backend, self._postponed = backend, None
        broadcast_object_list(failure)  # only the first process writes
        if failure[0] is not None:
            _put_back(info, BEST, before[0])
            _put_back(vars(self), BEST, before[1])
            runner.logger.error(f'The best checkpoint so far could not be written ({failure[0]})')
            return
        now = {getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()}
        self._remove(runner, [Path(path).name for path in later.removed if path not in now])
        for step, meta in again:  # the last checkpoint, which now knows the best one
            self._save_checkpoint_with_step(runner, step, meta)


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
