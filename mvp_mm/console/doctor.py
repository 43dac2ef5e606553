"""Is everything there? Each finding says what to do about it."""

import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.registry import HOOKS
from mmpretrain.registry import MODELS, TRANSFORMS
from rich.console import Console
from rich.markup import escape

from ..hardware import cpu_instructions, cpu_name, has_native_bf16, usable_cores, usable_memory
from ..stack import REQUIRED
from ..version import __version__
from ..zoo import cache_dir, download_weights, find_entry, list_models
from ..zoo.custom_zoos import entries_at, zoo_places
from ..zoo.downloads import offline

COMPONENTS = {
    MODELS: ('MVP', 'MVPViT', 'CLIPTargetGenerator', 'TimmTargetGenerator', 'MVPNeck', 'MVPLoss'),
    TRANSFORMS: ('BlockwiseMask', 'PackMaskedInputs'),
    HOOKS: ('ThroughputHook',),
}
# Packages that some commands want, and which.
OPTIONAL = {
    'onnx': 'mvp-mm export onnx',
    'onnxruntime': 'mvp-mm export onnx',
    'transformers': 'mvp-mm export transformers',
    'lightly': 'training a DINO teacher',
}
# Where the configs look, and what to do.
DATA = {
    'data/imagenet/train': 'for configs on ImageNet: see docs/downstream.md, or name a folder with --data',
    'data/ade/ADEChallengeData2016': 'for configs on ADE20K: python tools/prepare_ade20k.py',
}
# What CLIP's own downloads and open_clip's end in.
CLIP_FILES = ('~/.cache/clip/ViT-B-16.pt',)
CLIP_REPOSITORY = 'models--timm--vit_base_patch16_clip_224.openai'
FREE_GB = 5


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Args:
        state: ``'ok'``, ``'note'`` (only some uses want it) or ``'fail'``.
        what: What was looked at, and found.
        advice: What to do; empty where nothing needs to be done.
    """

    state: str
    what: str
    advice: str = ''


def installation() -> Iterator[Finding]:
    """Versions of Python and the packages."""
    python = platform.python_version()
    yield Finding('ok', f'mvp_mm {__version__}, Python {python} in {sys.prefix}, {platform.platform()}')
    found = ', '.join(f'{name} {sys.modules[name].__version__}' for name in REQUIRED if name in sys.modules)
    yield Finding('ok', f'{found} (each is new enough: import mvp_mm checks that)')
    for package, use in OPTIONAL.items():
        try:
            yield Finding('ok', f'{package} {importlib.metadata.version(package)}')
        except importlib.metadata.PackageNotFoundError:
            yield Finding('note', f'{package} is not installed', f'{use} needs it: pip install {package}')


def processors() -> Iterator[Finding]:
    """GPUs and cores."""
    if not torch.cuda.is_available():
        built = f'torch is built for CUDA {torch.version.cuda}' if torch.version.cuda else 'torch has no CUDA'
        yield Finding(
            'note',
            f'no GPU ({built})',
            'a CPU trains the vittiny configs in minutes; at ViT-B size use a machine with GPUs',
        )
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        yield Finding('ok', f'GPU {number}: {about.name}, {about.total_memory / 2**30:.0f} GiB')
    if torch.cuda.is_available() and not has_native_bf16('cuda'):
        yield Finding('note', 'the GPU has no bfloat16', 'training is in float32, which is slower')
    memory = usable_memory() / 2**30
    yield Finding(
        'ok', f'{usable_cores()} cores of {cpu_name()} ({cpu_instructions()}), {memory:.0f} GiB of memory'
    )


def components() -> Iterator[Finding]:
    """What the configs name is registered."""
    for registry, names in COMPONENTS.items():
        lost = [name for name in names if registry.get(name) is None]
        if lost:
            yield Finding(
                'fail',
                f'not registered in {registry.scope}.{registry.name}: {", ".join(lost)}',
                'install mvp_mm again: pip install --config-settings editable_mode=compat -e ".[openmmlab]"',
            )
        else:
            yield Finding('ok', f'registered in {registry.scope}.{registry.name}: {", ".join(names)}')


def data_folders() -> Iterator[Finding]:
    """Data where the configs look for them from the current folder, and room on the disk."""
    for folder, advice in DATA.items():
        if Path(folder).is_dir():
            yield Finding('ok', f'{folder} is there')
        else:
            yield Finding('note', f'no {folder} in {Path.cwd()}', advice)
    disk = os.statvfs('.')
    free = disk.f_bavail * disk.f_frsize / 1e9
    if free < FREE_GB:
        yield Finding('fail', f'{free:.1f} GB free in {Path.cwd()}', 'checkpoints need room: free some')
    else:
        yield Finding('ok', f'{free:.0f} GB free in {Path.cwd()}')


def weights() -> Iterator[Finding]:
    """Weights that can be had."""
    for name in list_models(pretrained=True):
        yield _weights_of(name)
    if clip_is_here():
        yield Finding('ok', "OpenAI's CLIP ViT-B/16, the default teacher, is on this machine")
    else:
        yield Finding(
            'note',
            "OpenAI's CLIP ViT-B/16, the default teacher, is not on this machine",
            'it is downloaded when first used; without a network copy its file here, and name it: '
            '--teacher ViT-B-16-quickgelu/FILE',
        )
    for place in zoo_places():
        try:
            yield Finding('ok', f'the zoo {place} has {len(entries_at(place))} models')
        except (FileNotFoundError, ValueError) as error:
            yield Finding('fail', f'the zoo {place}: {error}', 'correct MVP_MM_ZOO, or take it out')
    network = 'switched off by the environment' if offline() else 'allowed'
    yield Finding('ok', f'downloads are {network}, and go to {cache_dir()}')


def _weights_of(name: str) -> Finding:
    if '://' in str(find_entry(name).weights):
        return Finding('ok', f'{name}: `mvp-mm download {name}` brings its weights')
    try:
        download_weights(name)
        return Finding('ok', f'{name}: its weights are there, and their sha256 is right')
    except (OSError, ValueError) as error:
        return Finding('fail', f'{name}: {error}', 'install mvp_mm again, or copy the file from its source')


def clip_is_here() -> bool:
    """Whether the default teacher's weights are where CLIP, or huggingface_hub, keeps them."""
    from huggingface_hub.constants import HF_HUB_CACHE

    kept = Path(HF_HUB_CACHE) / CLIP_REPOSITORY / 'snapshots'
    return any(Path(file).expanduser().is_file() for file in CLIP_FILES) or any(kept.glob('*/*'))


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    'Installation': installation,
    'Processors': processors,
    'Components': components,
    'Data': data_folders,
    'Weights': weights,
}
MARKS = {'ok': '[green]ok  [/]', 'note': '[yellow]note[/]', 'fail': '[red]FAIL[/]'}


def diagnose() -> int:
    """Print the report.

    Returns:
        How many findings keep the package from working.
    """
    console = Console(highlight=False, soft_wrap=True)
    failures = 0
    for title, check in CHECKS.items():
        console.print(f'[bold]{title}[/]')
        for finding in check():
            failures += finding.state == 'fail'
            console.print(f'  {MARKS[finding.state]}  {escape(finding.what)}')
            if finding.advice:
                console.print(f'        -> {escape(finding.advice)}')
    verdict = f'{failures} to mend' if failures else 'everything that is needed is there'
    console.print(f'\n[bold]{verdict}[/]')
    return failures
