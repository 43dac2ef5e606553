"""Answers the questions that tools/setup_env.sh asks of a Python environment.

It runs before anything is installed, so it imports nothing but the standard library and pip.
"""

import argparse
import hashlib
import importlib
import importlib.metadata
import importlib.util
import runpy
import shutil
import sys
from pathlib import Path

# Distributions of the original OpenMMLab line that install the same folders as the maintained one.
ORIGINALS = ('mmcv', 'mmcv-full', 'mmcv-lite', 'mmengine', 'mmengine-lite', 'mmpretrain')
ORIGINALS += ('mmsegmentation',)


def fingerprint(root: Path) -> int:
    """Prints a hash that changes when an installation of the clone at `root` becomes outdated."""
    digest = hashlib.sha256(f'{root.resolve()} {sys.version_info[:2]}'.encode())
    for file in (root / 'setup.py', *sorted((root / 'requirements').glob('*.txt'))):
        digest.update(file.name.encode() + b'\0' + file.read_bytes())
    print(digest.hexdigest())
    return 0


def unmet(files: list[Path]) -> int:
    """Prints the requirements that this environment does not meet; fails if there are any."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        from pip._vendor.packaging.requirements import Requirement

    missing = []
    for file in files:
        for line in file.read_text(encoding='utf-8').splitlines():
            text = line.split('#')[0].strip()
            if not text:
                continue
            requirement = Requirement(text)
            if requirement.marker and not requirement.marker.evaluate():
                continue
            try:
                version = importlib.metadata.version(requirement.name)
            except importlib.metadata.PackageNotFoundError:
                missing.append(text)
                continue
            if not requirement.specifier.contains(version, prereleases=True):
                missing.append(f'{text} (found {version})')
    print('\n'.join(missing))
    return 1 if missing else 0


def originals() -> int:
    """Prints which distributions of the original OpenMMLab line are installed; fails if none is."""
    installed = []
    for name in ORIGINALS:
        try:
            installed.append(f'{name} {importlib.metadata.version(name)}')
        except importlib.metadata.PackageNotFoundError:
            continue
    print(', '.join(installed))
    return 0 if installed else 1


def imports(modules: list[str]) -> int:
    """Imports each module; prints why the first one that fails does, and fails too."""
    for module in modules:
        try:
            importlib.import_module(module)
        # Compiled packages fail in many ways on a foreign system, not only with ImportError.
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            print(f'{module}: {reason}')
            return 1
    return 0


def present(modules: list[str]) -> int:
    """Fails unless every module can be found; imports none, so it takes no time."""
    return 0 if all(importlib.util.find_spec(module) for module in modules) else 1


def cores() -> int:
    """Prints how many cores a process may use here."""
    root = Path(__file__).resolve().parents[1]
    folders = (root / 'mvp_mm', root.parent)  # of a clone, of an installed package
    file = next(folder / 'hardware.py' for folder in folders if (folder / 'hardware.py').is_file())
    print(runpy.run_path(str(file))['usable_cores']())
    return 0


def disk(folder: Path, needed_gb: float, scratch: Path, scratch_gb: float) -> int:
    """Prints which of two folders lies on too full a disk; fails if one does.

    Args:
        folder (Path): The environment.
        needed_gb (float): Free space it needs if everything lies on its disk, downloads included.
        scratch (Path): Where pip puts what it downloads.
        scratch_gb (float): Free space that needs, looked at only if it is another disk.
    """
    wanted = [(folder, needed_gb)]
    if scratch.stat().st_dev != folder.stat().st_dev:
        wanted.append((scratch, min(scratch_gb, needed_gb)))
    for path, gigabytes in wanted:
        free = shutil.disk_usage(path).free / 1e9
        if free < gigabytes:
            print(f'{path} has {free:.1f} GB free, and {gigabytes:g} GB are needed')
            return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    command = commands.add_parser('fingerprint', help='hash of what an installation depends on')
    command.add_argument('root', type=Path)
    command = commands.add_parser('unmet', help='requirements that are not met')
    command.add_argument('files', type=Path, nargs='+')
    commands.add_parser('originals', help='packages of the original OpenMMLab line')
    for name in ('imports', 'present'):
        command = commands.add_parser(name, help='whether modules can be imported, or found')
        command.add_argument('modules', nargs='+')
    commands.add_parser('cores', help='number of usable cores')
    command = commands.add_parser('disk', help='whether there is room for an installation')
    command.add_argument('folder', type=Path)
    command.add_argument('needed_gb', type=float)
    command.add_argument('scratch', type=Path)
    command.add_argument('scratch_gb', type=float)
    arguments = vars(parser.parse_args())
    return globals()[arguments.pop('command')](**arguments)


if __name__ == '__main__':
    sys.exit(main())
