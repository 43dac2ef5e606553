"""What this package needs of the stack under it, checked and mended in one place."""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

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


# Printed at import by the OpenMMLab packages of the maintained line; it means nothing to a user.
NOISE = 'Could not import OneDL'


class _WithoutNoise:
    """A text stream that passes everything on but the one line of :data:`NOISE`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._dropped = False

    def write(self, text: str) -> int:
        # print() writes a line and its end in two calls
        if text == NOISE or (self._dropped and text == '\n'):
            self._dropped = text == NOISE
            return len(text)
        self._dropped = False
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def quiet_stack_noise() -> Iterator[None]:
    """While importing the stack, hide two messages of it that no user can act on.

    One is a warning of mmcv about its compiled operators, of which nothing here uses any; the other the
    line :data:`NOISE`. Everything else stays visible.
    """
    warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')
    with redirect_stdout(_WithoutNoise(sys.stdout)):
        yield


def check_versions() -> None:
    """Import the required packages and compare their versions.

    Raises:
        ImportError: If a package is missing or too old; names the package, the version found, the
            version wanted and the command that installs it.
    """
    for name, wanted in REQUIRED.items():
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            raise ImportError(
                f'mvp_mm needs {name}>={wanted}, but {name} is not installed. {INSTALL_HINT}'
            ) from error
        found = str(module.__version__)
        if Version(Version(found).base_version) < Version(wanted):
            raise ImportError(
                f'mvp_mm needs {name}>={wanted}, but {name} {found} is installed. {INSTALL_HINT}'
            )
    for name in REQUIRED_PRESENT:
        if importlib.util.find_spec(name) is None:
            raise ImportError(f'mvp_mm needs {name}, but it is not installed. {INSTALL_HINT}')


def register_config_scopes() -> None:
    """Let MMEngine resolve ``mvp_mm::...`` and ``mmseg::...`` config paths.

    MMEngine maps a scope to a *distribution* name. That table does not know this package, and for
    ``mmseg`` it names a distribution that is not the one installed on the maintained line. The import
    name works for both lines, because MMEngine then asks Python where the package lies.
    """
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE['mvp_mm'] = 'mvp_mm'
    MODULE2PACKAGE['mmseg'] = 'mmseg'
