"""Check the installation; each finding says what to do about it."""

import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

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
# Packages that only some commands need.
OPTIONAL = {
    'onnx': 'mvp-mm export onnx',
    'onnxruntime': 'mvp-mm export onnx',
    'onnxscript': 'mvp-mm export onnx',
    'transformers': 'mvp-mm export transformers',
    'lightly': 'training a DINO teacher',
}
# Where the configs look, and what to do.
DATA = {
    'data/imagenet/train': 'for configs on ImageNet: see docs/downstream.md, or name a folder with --data',
    'data/ade/ADEChallengeData2016': 'for configs on ADE20K: python tools/prepare_ade20k.py',
}
# Where CLIP itself, and open_clip by huggingface_hub, keep the default teacher.
CLIP_FILE = Path('~/.cache/clip/ViT-B-16.pt')
CLIP_REPOSITORY = 'models--timm--vit_base_patch16_clip_224.openai'
CLIP = "OpenAI's CLIP ViT-B/16, the default teacher,"
FREE_GB = 5
MARKS = {'ok': '[green]ok  [/]', 'note': '[yellow]note[/]', 'fail': '[red]FAIL[/]'}


class Finding(NamedTuple):
    """One line of the report: its state is ``'ok'``, ``'note'`` (matters to some uses only) or ``'fail'``."""

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
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        yield Finding('ok', f'GPU {number}: {about.name}, {about.total_memory / 2**30:.0f} GiB')
    if not torch.cuda.is_available():
        built = f'torch is built for CUDA {torch.version.cuda}' if torch.version.cuda else 'torch has no CUDA'
        advice = 'a CPU trains the vittiny configs in minutes; at ViT-B size use a machine with GPUs'
        yield Finding('note', f'no GPU ({built})', advice)
    elif not has_native_bf16('cuda'):
        yield Finding('note', 'the GPU has no bfloat16', 'training is in float32, which is slower')
    cores = f'{usable_cores()} cores of {cpu_name()} ({cpu_instructions()})'
    yield Finding('ok', f'{cores}, {usable_memory() / 2**30:.0f} GiB of memory')


def components() -> Iterator[Finding]:
    """Whether the classes that the configs name are registered."""
    advice = 'install mvp_mm again: pip install --config-settings editable_mode=compat -e ".[openmmlab]"'
    for registry, names in COMPONENTS.items():
        place = f'registered in {registry.scope}.{registry.name}'
        if lost := [name for name in names if registry.get(name) is None]:
            yield Finding('fail', f'not {place}: {", ".join(lost)}', advice)
        else:
            yield Finding('ok', f'{place}: {", ".join(names)}')


def data() -> Iterator[Finding]:
    """Data where the configs look for them from the current folder, and room on the disk."""
    for folder, advice in DATA.items():
        if Path(folder).is_dir():
            yield Finding('ok', f'{folder} is there')
        else:
            yield Finding('note', f'no {folder} in {Path.cwd()}', advice)
    free = shutil.disk_usage('.').free / 1e9
    if free < FREE_GB:
        yield Finding('fail', f'{free:.1f} GB free in {Path.cwd()}', 'checkpoints need room: free some')
    else:
        yield Finding('ok', f'{free:.0f} GB free in {Path.cwd()}')


def weights() -> Iterator[Finding]:
    """Weights that can be had."""
    from huggingface_hub.constants import HF_HUB_CACHE

    for name in list_models(pretrained=True):
        if '://' in str(find_entry(name).weights):
            yield Finding('ok', f'{name}: `mvp-mm download {name}` brings its weights')
            continue
        try:
            download_weights(name)
            yield Finding('ok', f'{name}: its weights are there, and their sha256 is right')
        except (OSError, ValueError) as error:
            advice = 'install mvp_mm again, or copy the file from its source'
            yield Finding('fail', f'{name}: {error}', advice)
    if CLIP_FILE.expanduser().is_file() or any(Path(HF_HUB_CACHE, CLIP_REPOSITORY).glob('snapshots/*/*')):
        yield Finding('ok', f'{CLIP} is on this machine')
    else:
        advice = 'it is downloaded when first used; without a network copy its file here, and name it: '
        yield Finding('note', f'{CLIP} is not here', f'{advice}--teacher ViT-B-16-quickgelu/FILE')
    for place in zoo_places():
        try:
            yield Finding('ok', f'the zoo {place} has {len(entries_at(place))} models')
        except (FileNotFoundError, ValueError) as error:
            yield Finding('fail', f'the zoo {place}: {error}', 'correct MVP_MM_ZOO, or take it out')
    network = 'switched off by the environment' if offline() else 'allowed'
    yield Finding('ok', f'downloads are {network}, and go to {cache_dir()}')


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (installation, processors, components, data, weights)


def diagnose() -> int:
    """Print the report, and return how many findings keep the package from working."""
    console = Console(highlight=False, soft_wrap=True)
    failures = sum(print_findings(console, check.__name__.capitalize(), check()) for check in CHECKS)
    verdict = f'{failures} to fix' if failures else 'everything that is needed is there'
    console.print(f'\n[bold]{verdict}[/]')
    return failures


def print_findings(console: Console, title: str, findings: Iterable[Finding]) -> int:
    """Print findings under a title, and return how many are failures."""
    failures = 0
    console.print(f'[bold]{title}[/]')
    for finding in findings:
        failures += finding.state == 'fail'
        console.print(f'  {MARKS[finding.state]}  {escape(finding.what)}')
        if finding.advice:
            console.print(f'        -> {escape(finding.advice)}')
    return failures
