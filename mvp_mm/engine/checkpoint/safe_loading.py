"""Make MMEngine's checkpoint loader read plain data only."""

import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import mmengine.runner.checkpoint as mmengine_checkpoint

from .safe_checkpoint import load_checkpoint_file


def register_safe_loading() -> None:
    """Replace the loader that all of MMEngine's ways of loading end in.

    It serves ``init_cfg=dict(type='Pretrained')`` of any library, functions of mmpretrain and mmseg, and
    MMEngine's other runners. The maintained line's own repeats without torch's safe mode what that refuses.
    """

    def load_from_file(source: str | Path | BinaryIO, map_location: Any = None, **unused: Any) -> dict:
        if isinstance(source, str | Path):
            return load_checkpoint_file(source, map_location or 'cpu')
        with tempfile.NamedTemporaryFile(suffix='.pth') as file:  # downloaded from an object store
            file.write(source.read())
            file.flush()
            return load_checkpoint_file(file.name, map_location or 'cpu')

    mmengine_checkpoint.CheckpointLoader.register_scheme(
        prefixes=('', 'http://', 'https://'), loader=load_from_file, force=True
    )
    # loaders of other schemes (torchvision://, open-mmlab://, ...) end in these
    for name in ('load_from_local', 'load_from_http', '_safe_torch_load'):
        setattr(mmengine_checkpoint, name, load_from_file)
