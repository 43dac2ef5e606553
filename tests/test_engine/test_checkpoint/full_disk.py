"""Run on a tiny file system: it fills up after the first checkpoint, and there is room again for the last."""

import sys
from contextlib import suppress
from pathlib import Path

from exact_runs import Watch, build
from mmengine.hooks import Hook

from mvp_mm.engine.checkpoint.safe_checkpoint import verify_checkpoint

FOLDER = Path(sys.argv[1])
FILL = FOLDER / 'fill'


class Disk(Hook):
    """Fills the file system after the first epoch and empties it after the second."""

    priority = 'LOWEST'  # after the checkpoint is written

    def after_train_epoch(self, runner):
        if runner.epoch == 0:
            with suppress(OSError), FILL.open('wb', buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        elif runner.epoch == 1:
            tell()
            FILL.unlink()


def tell():
    last = Path((FOLDER / 'last_checkpoint').read_text())
    verify_checkpoint(last)
    told.append(f'{last.name} good')


told = []
build(FOLDER, Watch(), epochs=3, hooks=[Disk()]).train()
tell()
print('RESULT', *told)
