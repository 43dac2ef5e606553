"""Old names of what has been renamed: they keep working, and say the new name."""

import importlib
import importlib.abc
import importlib.util
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Modules that documents or dumped configs of 0.1 name.
MODULES = {
    'mvp_mm.datasets.ade20k': 'mvp_mm.datasets.sources.ade20k',
    'mvp_mm.datasets.camvid': 'mvp_mm.datasets.sources.camvid',
    'mvp_mm.datasets.read_rgb': 'mvp_mm.datasets.transforms.decode_image',
    'mvp_mm.datasets.scene_segmentation': 'mvp_mm.datasets.sources.scene_segmentation',
    'mvp_mm.datasets.segmentation_folder': 'mvp_mm.datasets.sources.segmentation_folder',
    'mvp_mm.datasets.check_label_map': 'mvp_mm.datasets.transforms.check_label_map',
    'mvp_mm.engine.launch': 'mvp_mm.engine',
    'mvp_mm.engine.single_image_hook': 'mvp_mm.engine.hooks.single_image_hook',
    'mvp_mm.miniature': 'mvp_mm.models.baselines',
    'mvp_mm.miniature.patch_codebook': 'mvp_mm.models.baselines.patch_codebook',
    'mvp_mm.miniature.token_map': 'mvp_mm.models.baselines.token_map',
    'mvp_mm.models.packed_seg_preprocessor': 'mvp_mm.models.segmentation.packed_seg_preprocessor',
    'mvp_mm.models.windowed_encoder_decoder': 'mvp_mm.models.segmentation.windowed_encoder_decoder',
    'mvp_mm.models.checkpoint_loading': 'mvp_mm.weights.load',
    'mvp_mm.models.mvp_vit': 'mvp_mm.models.backbones.mvp_vit',
}


class _OldModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a module of 0.1 as what it is called now."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        warnings.warn(f'{spec.name} is now {MODULES[spec.name]}', DeprecationWarning, stacklevel=2)
        module = importlib.import_module(MODULES[spec.name])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Keep the spec of the new name; the module has been executed under it."""
        if module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state


def register_old_modules() -> None:
    """Let the old names of modules be imported."""
    if not any(isinstance(finder, _OldModules) for finder in sys.meta_path):
        # Before the finder of files: an old package has the folder of the new one.
        sys.meta_path.insert(0, _OldModules())


def old_names(module: str, **names: str) -> Callable[[str], Any]:
    """Make a ``__getattr__`` for a module's ``__name__``: by old name, find the new one, and warn."""

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f'module {module!r} has no attribute {name!r}')
        warnings.warn(f'{module}.{name} is now {names[name]}', DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[module], names[name])

    return find
