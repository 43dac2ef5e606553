"""MMEngine's own loader, made to read checkpoints as this package does."""

import tempfile
from typing import Any, BinaryIO

import mmengine.runner.checkpoint as mmengine_checkpoint

from .safe_checkpoint import load_checkpoint_file


def register_safe_loading() -> None:
    """Let everything that loads through MMEngine read plain data only.

    ``init_cfg=dict(type='Pretrained')`` of any library's backbone, mmpretrain's and mmseg's functions and
    MMEngine's other runners all end in one loader. On the maintained line it reads again without torch's safe
    mode what safe mode refuses, and so runs whatever a file says.
    """
    loaders = mmengine_checkpoint.CheckpointLoader

    def load_from_file(source: str | BinaryIO, map_location: Any = None, **unused: Any) -> dict:
        if not hasattr(source, 'read'):
            return load_checkpoint_file(source, map_location or 'cpu')
        with tempfile.NamedTemporaryFile(suffix='.pth') as file:  # what came from an object store
            file.write(source.read())
            file.flush()
            return load_checkpoint_file(file.name, map_location or 'cpu')

    loaders.register_scheme(prefixes=('', 'http://', 'https://'), loader=load_from_file, force=True)
    # By these names the loaders of other schemes (torchvision://, open-mmlab://, ...) end in it.
    mmengine_checkpoint.load_from_local = load_from_file
    mmengine_checkpoint.load_from_http = load_from_file
    mmengine_checkpoint._safe_torch_load = load_from_file
