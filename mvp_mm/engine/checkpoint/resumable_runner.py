import re
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process, master_only
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from ...models.speaking.speech import KEY as SPEECH
from ...weights.fill_model import fill_whole, start_from
from ...weights.locate import local_path
from ...weights.read import renamed, tensors_by_name
from .exact_resume import ExactResume
from .resumed_settings import ResumedSettings
from .safe_checkpoint import (
    atomic_write,
    load_checkpoint_file,
    make_plain,
    require_training_state,
    saved_checkpoints,
    verify_checkpoint,
)

WRAPPED = ((r'^module\.', ''),)  # names of a wrapped model, and what to make of them


class ResumableRunner(Runner):
    """MMEngine's runner with checkpoints that are safe to load, written whole, and exactly resumed.

    A resumed run is the one that was never stopped (:class:`ExactResume`), by the new settings where its
    config has changed (:class:`ResumedSettings`). A damaged last checkpoint is passed over. A checkpoint that
    does not fill the model is an error where it is evaluated or resumed.
    """

    # Requirements for the next `load_checkpoint`: to fill all of the model, and to have these entries.
    _needs_whole_model = False
    _required_entries: tuple[str, ...] = ()
    # Random states of the checkpoint that was loaded last.
    _restart_state: dict | None = None
    _load_from: str | None
    _resume: bool
    _resumed_settings: ResumedSettings | None = None

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call the hooks; add the model's ``speech()`` to a checkpoint, and make it all plain data."""
        super().call_hook(fn_name, **kwargs)
        if fn_name == 'before_save_checkpoint':
            checkpoint, model = kwargs['checkpoint'], self._bare_model()
            if hasattr(model, 'speech'):
                checkpoint['meta'][SPEECH] = model.speech()
            make_plain(checkpoint)

    @master_only
    def save_checkpoint(
        self, out_dir: str, filename: str, file_client_args: dict | None = None, *args: Any, **kwargs: Any
    ) -> None:
        """Write a checkpoint whole or not at all (OSError); to remote storage as MMEngine does."""
        if file_client_args is not None or kwargs.get('backend_args') is not None or '://' in str(out_dir):
            super().save_checkpoint(out_dir, filename, file_client_args, *args, **kwargs)
            return
        with atomic_write(Path(out_dir) / filename) as temporary:
            super().save_checkpoint(str(out_dir), temporary.name, None, *args, **kwargs)

    def load_checkpoint(
        self, filename: str, map_location: Any = 'cpu', strict: bool = False, revise_keys: Any = WRAPPED
    ) -> dict:
        """Load a checkpoint without running code in it; raise FileNotFoundError, or ValueError if it is none.

        With ``strict``, and for :meth:`test`, :meth:`val` and :meth:`resume`, it must fill the whole model.
        Otherwise it must fill the backbone, and the log says what keeps its initialisation.
        """
        checkpoint = load_checkpoint_file(filename, map_location)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        weights = tensors_by_name(checkpoint, filename)
        for pattern, replacement in revise_keys:
            weights = renamed(weights, partial(re.sub, pattern, replacement))
        model = self._bare_model()
        require_training_state(checkpoint, self._required_entries, filename)
        meta = checkpoint.get('meta')
        self._restart_state = meta.get('restart') if isinstance(meta, dict) else None
        if self._resumed_settings is not None:
            self._resumed_settings.apply_to(checkpoint, str(filename))
        load = fill_whole if strict or self._needs_whole_model else start_from
        load(model, weights, str(filename))
        self._has_loaded = True
        self.logger.info(f'Load checkpoint from {filename}')
        return checkpoint

    def _bare_model(self) -> Any:
        model = self.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        return model

    def resume(
        self, filename: str, resume_optimizer=True, resume_param_scheduler=True, map_location: Any = 'default'
    ) -> None:
        """Resume from a checkpoint, by this run's settings where they differ; raise as `load_checkpoint`."""
        # MMEngine's default is the GPU, where AdamW then waits for its step counters
        location = 'cpu' if map_location == 'default' else map_location
        self._needs_whole_model = True
        self._required_entries = ('meta', 'message_hub', *(['optimizer'] if resume_optimizer else []))
        seed, sampler = self.seed, self.train_dataloader.sampler
        if resume_optimizer and resume_param_scheduler:
            self._resumed_settings = ResumedSettings(self)
        try:
            super().resume(filename, resume_optimizer, resume_param_scheduler, location)
            if getattr(sampler, 'seed', None) == seed:
                sampler.seed = self.seed  # the checkpoint's, also where this run has drawn its own
            if isinstance(self.train_loop, ExactResume):
                self.train_loop.prepare_restart(self._restart_state)
            if self._resumed_settings is not None:
                self._resumed_settings.replay_schedule()
        except (LookupError, AttributeError, AssertionError, TypeError) as error:  # MMEngine checks nothing
            raise ValueError(
                f'training cannot go on from {filename}: its optimiser, schedule or log is not what this '
                f"config's run saves ({type(error).__name__}: {error})"
            ) from error
        finally:
            self._resumed_settings = None

    def load_or_resume(self) -> None:
        """Load or resume a checkpoint, by default the last good one of the work dir, or a ValueError."""
        if not self._has_loaded and self._resume:
            if self._load_from is None:
                self._load_from = self._last_good_checkpoint()
                self._resume = self._load_from is not None
            else:
                verify_checkpoint(local_path(str(self._load_from)))
        super().load_or_resume()

    def _last_good_checkpoint(self) -> str | None:
        """Find it in one process, so that all resume from the same one."""
        found: list[Any] = [None, []]
        for saved in saved_checkpoints(self.work_dir) if is_main_process() else ():
            try:
                verify_checkpoint(saved)
                found[0] = str(saved)
                break
            except ValueError as error:
                found[1].append(str(error))
                self.logger.warning(f'{error}. It is passed over; the one before it is tried')
        broadcast_object_list(found)
        path, damaged = found
        if path is None and damaged:
            raise ValueError(
                f'none of the {len(damaged)} checkpoints in {self.work_dir} can be resumed from: '
                f'{"; ".join(damaged)}. Give a good one with --resume FILE, or train in another --work-dir'
            )
        return path
