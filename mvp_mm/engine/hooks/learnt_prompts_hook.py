from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...models.prompts.saved_prompts import save_prompts

SHOWN = 32  # vectors whose words are logged: class-specific ones are many


@HOOKS.register_module()
class LearntPromptsHook(Hook):
    """Save the learnt prompts as ``prompts.safetensors`` in the work dir, and log their nearest words.

    They are those of the last step (as the papers' are), as a file of a few kilobytes: see
    :func:`~mvp_mm.models.prompts.saved_prompts.load_prompts`.
    """

    def after_train(self, runner: Runner) -> None:
        if not is_main_process():
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        path = Path(runner.work_dir) / 'prompts.safetensors'
        words = save_prompts(model.prompts, path)
        runner.logger.info(f'Learnt prompts written to {path} ({path.stat().st_size / 1e3:.1f} kB)')
        shown = [' / '.join(f'{word} {distance:.2f}' for word, distance in row) for row in words[:SHOWN]]
        runner.logger.info('Nearest words and their distances: ' + '; '.join(shown))
