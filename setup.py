import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# What MMEngine looks up in `mvp_mm/.mim` when a config says `mvp_mm::...`. In a clone, these are
# links to the real folders.
SHIPPED = ('configs', 'tools', 'model-index.yml')
# Programs of a clone, for those who develop the package: benchmarks, experiments, faults, tests.
NOT_SHIPPED = (
    'analysis_tools',
    'demonstrate.py',
    'quickstart.sh',
    'release_check.sh',
    'reproduce_miniature.py',
    'reproduce_photographs.py',
    'run_tests.sh',
)


def read_version() -> str:
    """Returns the version without importing the package, whose requirements are not there yet."""
    text = (ROOT / 'mvp_mm' / 'version.py').read_text(encoding='utf-8')
    match = re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE)
    if match is None:
        raise ValueError("mvp_mm/version.py has no line `__version__ = '...'`")
    return match.group(1)


def read_requirements(name: str) -> list[str]:
    """Returns the lines of requirements/<name>.txt without comments."""
    text = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8')
    lines = (line.split('#')[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def read_readme() -> str:
    readme = ROOT / 'README.md'
    return readme.read_text(encoding='utf-8') if readme.exists() else ''


class BuildWithConfigs(build_py):
    """Puts configs, tools and the model index into the package as `mvp_mm/.mim`.

    They are copied from the real folders and not through the links in `mvp_mm/.mim`: setuptools'
    own file search visits a folder once, however many links lead to it, and source distributions
    carry no links.
    """

    def run(self) -> None:
        super().run()
        if getattr(self, 'editable_mode', False):
            self._link_shipped()
        else:
            self._copy_shipped()

    def _copy_shipped(self) -> None:
        mim = Path(self.build_lib) / 'mvp_mm' / '.mim'
        # A build folder left from an older build may hold configs that no longer exist.
        shutil.rmtree(mim, ignore_errors=True)
        mim.mkdir(parents=True)
        for name in SHIPPED:
            copy(ROOT / name, mim / name)

    def _link_shipped(self) -> None:
        """Restores links that an unpacked source distribution lacks."""
        mim = ROOT / 'mvp_mm' / '.mim'
        mim.mkdir(exist_ok=True)
        for name in SHIPPED:
            link = mim / name
            if link.exists():
                continue
            link.unlink(missing_ok=True)
            try:
                link.symlink_to(os.path.join('..', '..', name), target_is_directory=(ROOT / name).is_dir())
            except OSError:  # a file system or a user without links
                copy(ROOT / name, link)


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(
            source, target, ignore=shutil.ignore_patterns('__pycache__', '*.py[cod]', '.*', *NOT_SHIPPED)
        )
    else:
        shutil.copy2(source, target)


setup(
    name='mvp_mm',
    version=read_version(),
    description='MVP: Multimodality-guided Visual Pre-training, as an OpenMMLab plug-in',
    long_description=read_readme(),
    long_description_content_type='text/markdown',
    author='mvp_mm contributors',
    license='Apache-2.0',
    keywords='self-supervised learning, masked image modelling, vision transformer, CLIP',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: MacOS',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Typing :: Typed',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    python_requires='>=3.10',
    packages=find_packages(include=['mvp_mm', 'mvp_mm.*']),
    # The command lies beside the package, whose import takes seconds.
    py_modules=['mvp_mm_command'],
    entry_points={'console_scripts': ['mvp-mm = mvp_mm_command:main']},
    # Data that a subpackage keeps beside its modules; `.mim` is the build command's business.
    include_package_data=False,
    package_data={'': ['*.json', '*.npz', '*.pth', '*.safetensors', '*.txt', '*.yml', 'py.typed']},
    install_requires=read_requirements('runtime'),
    extras_require={
        'openmmlab': read_requirements('openmmlab'),
        'detection': read_requirements('detection'),
        'docs': read_requirements('docs'),
        'export': read_requirements('export'),
        'parquet': read_requirements('parquet'),
        'teachers': read_requirements('teachers'),
        'tests': [
            requirement
            for name in ('tests', 'teachers', 'export', 'docs', 'parquet')
            for requirement in read_requirements(name)
        ],
        'all': [
            requirement
            for name in ('openmmlab', 'export', 'parquet', 'teachers', 'tests', 'docs')
            for requirement in read_requirements(name)
        ],
    },
    cmdclass={'build_py': BuildWithConfigs},
    zip_safe=False,
)
