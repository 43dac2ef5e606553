from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from .exact_resume import ExactResume, at_step_boundary
from .safe_checkpoint import PARTIAL, atomic_write_text


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` for disks that fill up and runs that are killed.

    The new checkpoint is written and verified, then ``last_checkpoint`` names it, then the oldest is removed.
    One that cannot be written is an error in the log, and training continues. Checkpoints hold what an exact
    restart needs, and follow an optimiser step, because accumulated gradients are not saved.
    :class:`MVPRunner` uses this hook wherever a config says ``CheckpointHook``.

    Args:
        *args: MMEngine's, as ``**kwargs``.
        retry_interval: Iterations until a failed checkpoint is tried again. Default 100.

    Raises:
        ValueError: If ``retry_interval`` is below 1.
        OSError: After training, if its last checkpoint could not be written.
    """

    keep_ckpt_ids: deque
    file_backend: Any
    _failure: str | None = None
    _failed_at = 0
    _saved_at: int | None = None
    _is_due = False
    _postponed: list[tuple[int, dict]] | None = None  # while the best checkpoint is being saved

    def __init__(self, *args, retry_interval: int = 100, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if retry_interval < 1:
            raise ValueError(f'retry_interval={retry_interval} is no number of iterations: give 1 or more')
        self.retry_interval = retry_interval

    def before_train(self, runner: Runner) -> None:
        """Set up MMEngine's hook and remove what a killed run left half-written."""
        super().before_train(runner)
        for path in Path(self.out_dir).glob(f'.*{PARTIAL}') if is_main_process() else ():
            path.unlink(missing_ok=True)

    def after_train(self, runner: Runner) -> None:
        """Publish, or raise if the end of the training is not saved."""
        if self._failure is not None:
            raise OSError(
                f'the last checkpoint of this training could not be written ({self._failure}); '
                f'{_last_good(runner)}. Make room, and go on from there with --resume'
            )
        super().after_train(runner)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Save after an optimiser step, if a checkpoint or a retry is due."""
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
        """Save the best, and record that this validation has been done."""
        runner.message_hub.update_info('iter_of_validation', runner.iter)
        super().after_val_epoch(runner, metrics)

    def save_now(self, runner: Runner, iteration: int) -> bool:
        """Save a checkpoint between the regular ones, in all processes; return whether it was written.

        Where checkpoints count epochs it is ``iter_<iteration>.pth``, removed after the next regular one.
        """
        if self._saved_at == iteration:
            return True
        meta = dict(epoch=runner.epoch, iter=iteration)
        if not self.by_epoch:
            self._save_checkpoint_with_step(runner, iteration, meta)
        else:
            name = f'iter_{iteration}.pth'
            self._save(runner, name, meta, self._extra(runner) - {name}, extra_ckpt=name)
        return self._failure is None

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        if self._postponed is not None:
            self._postponed.append((step, meta))
            return
        outdated, most = self._extra(runner), self.max_keep_ckpts
        info: dict = dict(extra_ckpt=None)
        kept = [*(number for number in self.keep_ckpt_ids if number != step), step] if most > 0 else []
        if kept:
            outdated |= {self.filename_tmpl.format(number) for number in kept[:-most]}
            info['keep_ckpt_ids'] = kept[-most:]
        self._save(runner, self.filename_tmpl.format(step), meta, outdated, **info)
        if self._failure is None and kept:
            self.keep_ckpt_ids = deque(kept, most)

    @staticmethod
    def _extra(runner: Runner) -> set[str]:
        """Return the last checkpoint of :meth:`save_now`, if it is still there."""
        return {runner.message_hub.get_info('extra_ckpt', None)} - {None}

    def _save(self, runner: Runner, name: str, meta: dict, outdated: set[str], **info: Any) -> None:
        """Write a checkpoint and ``last_checkpoint``, then remove outdated ones.

        Hooks get ``before_joint_checkpoint`` first, in all processes; ``info`` goes into the message hub.
        """
        runner.call_hook('before_joint_checkpoint')
        hub = runner.message_hub
        before = dict(hub.runtime_info)
        path = self.file_backend.join_path(self.out_dir, name)
        hub.update_info_dict(dict(info, last_ckpt=path))
        if isinstance(runner.train_loop, ExactResume):
            meta['restart'] = runner.train_loop.restart_state()
        failure: list[str | None] = [None]
        try:
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
            if is_main_process():
                atomic_write_text(Path(runner.work_dir) / 'last_checkpoint', path)
        except OSError as error:
            failure = [str(error)]
        broadcast_object_list(failure)  # only the first process writes
        self._failure = failure[0]
        if self._failure is None:
            self.last_ckpt, self._saved_at = path, meta['iter']
            self._remove(runner, outdated)
            return
        _restore(hub.runtime_info, before)
        self._failed_at = meta['iter']
        runner.logger.error(
            f'The checkpoint {path} could not be written ({self._failure}). Training goes on; '
            f'{_last_good(runner)}, and it is tried again after {self.retry_interval} iterations. Make '
            'room, or make the folder writable'
        )

    def _remove(self, runner: Runner, names: set[str]) -> None:
        for name in sorted(names) if is_main_process() else ():
            path = self.file_backend.join_path(self.out_dir, name)
            try:
                if self.file_backend.isfile(path):
                    self.file_backend.remove(path)
                elif self.file_backend.isdir(path):
                    self.file_backend.rmtree(path)
            except OSError as error:
                runner.logger.warning(f'The outdated checkpoint {path} could not be removed ({error})')

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Save the best checkpoint before the previous best is removed, which MMEngine does first."""
        if not self.save_best:
            return
        info, backend = runner.message_hub.runtime_info, self.file_backend
        before = dict(info)
        # in which MMEngine finds nothing to remove
        self.file_backend = SimpleNamespace(join_path=backend.join_path, isfile=_never, isdir=_never)
        postponed: list[tuple[int, dict]] = []
        self._postponed = postponed
        failure: list[str | None] = [None]
        try:
            super()._save_best_checkpoint(runner, metrics)
        except OSError as error:
            failure = [str(error)]
        finally:
            self.file_backend, self._postponed = backend, None
        broadcast_object_list(failure)  # only the first process writes
        if failure[0] is not None:
            _restore(info, before)
            if len(self.key_indicators) == 1:
                self.best_ckpt_path = info.get('best_ckpt')
            else:
                self.best_ckpt_path_dict = {key: info.get(f'best_ckpt_{key}') for key in self.key_indicators}
            runner.logger.error(f'The best checkpoint so far could not be written ({failure[0]})')
            return
        self._remove(runner, {Path(path).name for path in _best(before) - _best(info)})
        for step, meta in postponed:  # the last checkpoint, which now records the best one
            self._save_checkpoint_with_step(runner, step, meta)


def _best(info: dict) -> set[str]:
    return {path for key, path in info.items() if key.startswith('best_ckpt') and path}


def _never(path: str) -> bool:
    return False


def _restore(info: dict, before: dict) -> None:
    info.clear()
    info.update(before)


def _last_good(runner: Runner) -> str:
    last = runner.message_hub.get_info('last_ckpt', None)
    return f'the last good one is {last}' if last else 'there is no good one yet'
