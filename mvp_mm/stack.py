"""What this package needs of the stack under it, checked and mended in one place."""

import importlib
import importlib.util
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from packaging.version import Version

# Import name -> lowest version that is supported. Both lines of the OpenMMLab packages (the original
# and the maintained one) install the same import names, so only those are used.
REQUIRED = {
    'torch': '2.6',
    'torchvision': '0.21',
    'mmengine': '0.10',
    'mmcv': '2.0',
    'mmpretrain': '1.0',
    'timm': '1.0',
    'open_clip': '2.30',
}
# Needed by the segmentation configs only, so its presence is checked but it is not imported here.
REQUIRED_PRESENT = ('mmseg',)

INSTALL_HINT = (
    'Install the whole stack with `pip install "mvp_mm[openmmlab]"` (from a clone: '
    '`pip install -e ".[openmmlab]"`).'
)

# Printed at import by the OpenMMLab packages of the maintained line.
PRINTED_NOISE = ('Could not import OneDL', 'Could not import OneDL. Skipping OneDL datasets.')
# Beginnings of warnings that no user can act on, by how they are given.
WARNING_NOISE = (
    'Fail to import ``MultiScaleDeformableAttention``',  # mmcv's compiled operators, of which none is used
    'Detected call of `scheduler.step\\(\\)` before',  # of an accumulating optimiser wrapper
    'Default ``avg_non_ignore`` is False',
    'Only use .alpha. for pillow backend',
    'faster_coco_eval is not installed',
    'pkg_resources is deprecated',
    'torch.meshgrid: in an upcoming release',
    'x[Ff]ormers is ',
)
LOGGED_NOISE = ('"FileClient" will be', '"HardDiskBackend" is the alias', 'The prefix is not set in metric')
DEPRECATING = ('torch', 'timm', 'open_clip', 'mmengine', 'mmcv', 'mmpretrain', 'mmseg')


def hide_stack_warnings() -> None:
    """Hide the stack's deprecation warnings and :data:`WARNING_NOISE`."""
    for message in WARNING_NOISE:
        warnings.filterwarnings('ignore', message=message)
    for package in DEPRECATING:
        warnings.filterwarnings('ignore', category=FutureWarning, module=rf'{package}\b')


def is_no_stack_noise(record: logging.LogRecord) -> bool:
    """Whether a record of the log may tell a user something; a filter for handlers."""
    return not record.getMessage().startswith(LOGGED_NOISE)


@contextmanager
def quiet_stack_noise() -> Iterator[None]:
    """While importing the stack, hide what helps no user; print the rest at the end."""
    hide_stack_warnings()
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            if line not in PRINTED_NOISE:
                print(line)


def check_versions() -> None:
    """Import the required packages; ImportError says what is missing or too old, and how to install it."""
    for name, wanted in REQUIRED.items():
        try:
            found = str(importlib.import_module(name).__version__)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            what = f'{name}>={wanted}, but {name} is not installed'
            raise ImportError(f'mvp_mm needs {what}. {INSTALL_HINT}') from error
        if Version(Version(found).base_version) < Version(wanted):
            what = f'{name}>={wanted}, but {name} {found} is installed'
            raise ImportError(f'mvp_mm needs {what}. {INSTALL_HINT}')
    for name in REQUIRED_PRESENT:
        if importlib.util.find_spec(name) is None:
            raise ImportError(f'mvp_mm needs {name}, but it is not installed. {INSTALL_HINT}')


def provide_ops() -> None:
    """Let mmdet import and run beside an mmcv without compiled operators, such as pip installs from PyPI.

    To be called before mmpretrain and mmseg are imported, which import mmdet where it is installed.
    """
    both = all(map(importlib.util.find_spec, ('mmdet', 'mmcv')))
    if both and importlib.util.find_spec('mmcv._ext') is None:
        sys.modules['mmcv._ext'] = importlib.import_module(f'{__package__}.mmcv_ops')


def leave_out_multimodal() -> None:
    """Let mmpretrain import beside pycocotools and transformers 5, where its multimodal models do not."""
    from mmpretrain.utils import dependency

    if dependency.satisfy_requirement('transformers>=5'):
        dependency.WITH_MULTIMODAL = False


def register_config_scopes() -> None:
    """Let MMEngine resolve ``mvp_mm::...`` and ``mmseg::...`` config paths.

    MMEngine maps a scope to a *distribution*, but does not know this package, and names one for ``mmseg``
    that the maintained line does not install. With the import name, it asks Python where the package lies.
    """
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE.update(mvp_mm='mvp_mm', mmseg='mmseg')
