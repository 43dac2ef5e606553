"""Ship an experiment's teacher of names and a student of it: weights beside their configs, and a card.

Run it from the clone, with the folder of ``tools/reproduce_photographs.py``. What it prints goes into the
rows of ``configs/teachers/metafile.yml`` and ``configs/mvp/metafile.yml``.
"""

import argparse
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from mvp_mm.version import __version__
from mvp_mm.weights.read import BACKBONE, read_tensors
from mvp_mm.weights.write import safetensors_bytes

from ..jobs import CONFIGS, figures_of, result_file
from ..tables import markdown
from .plan import BUDGETS, CLIP, METHODS, METHODS_OF, TEACHERS, Job, plan

CARD = CONFIGS.parent / 'docs/photographs_card.md'
NECK = 'neck.'
TERMS = (
    'Tiny-ImageNet is a part of ImageNet, whose terms (https://www.image-net.org/download.php) allow '
    'research and education that is not commercial. There is no warranty that the weights may be used for '
    'more.'
)


def ship(out: Path, method: str, seed: int, commit: str) -> dict[str, str]:
    """Write weights and card; return the sha256 of each file.

    Args:
        out: Folder of the experiment.
        method: The student's, taught by CLIP.
        seed: Of teacher and student.
        commit: Of the code that has trained them.

    Raises:
        FileNotFoundError: If teacher or student are not trained.
        ValueError: If the method has another teacher.
    """
    if METHODS[method].teacher != CLIP:
        raise ValueError(f'{method} is not taught by the CLIP that is shipped beside it')
    about = json.loads((out / 'experiment.json').read_text())
    stem = Path(TEACHERS[CLIP][0]).stem
    teacher = CONFIGS / f'teachers/{stem}.safetensors'
    shutil.copyfile(out / f'teachers/{stem}_s{seed}.safetensors', teacher)
    trained = figures_of(out, f'train-{method}-s{seed}')
    weights = {
        name: value
        for name, value in read_tensors(out / trained['checkpoint']).items()
        if name.startswith((BACKBONE, NECK))
    }
    student = CONFIGS / Path(METHODS[method].config).with_suffix('.safetensors')
    name = f'mvp_{student.stem}'
    told = dict(name=name, method=method, seed=seed, iter=trained['steps'], commit=commit, mvp_mm=__version__)
    metadata = {'format': 'pt', 'torch': torch.__version__} | {key: str(value) for key, value in told.items()}
    student.write_bytes(safetensors_bytes(weights, metadata))
    digests = {str(p.relative_to(CONFIGS.parent)): sha256(p) for p in (teacher, student)}
    CARD.write_text(card(out, about, method, seed, commit, digests))
    return digests


def sha256(path: Path) -> str:
    """The sha256 of a file in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def card(
    out: Path, about: dict[str, Any], method: str, seed: int, commit: str, digests: dict[str, str]
) -> str:
    """Tell in Markdown where the weights come from, and every figure of them."""
    length = BUDGETS[about['length']]
    jobs = [
        job
        for job in plan(METHODS_OF[about['length']], (seed,), length)
        if (job.method == method or job.kind in ('teach', 'measure-teacher') and job.method == CLIP)
        and result_file(out, job.name).exists()
    ]
    files = {f'`{path}`': [f'`{digest}`'] for path, digest in digests.items()}
    figures = markdown(['figures'], {f'`{job.name}`': [_told(job, out)] for job in jobs})
    return f"""# The weights of photographs

Written by `python -m experiments.photographs.ship`.

{markdown(['sha256'], files)}

* **Data**: Tiny-ImageNet, 32,000 training photographs, 200 of each of 160 of its 200 classes, 64×64; names of
  classes as captions (`configs/_base_/datasets/tiny_imagenet.py`).
* **Terms of the data**: {TERMS}
* **Command**: `python tools/reproduce_photographs.py --length {about['length']}`, seed {seed}; the
  student is its `{method}`, of `configs/{METHODS[method].config}`.
* **Code**: commit `{commit}`, torch {torch.__version__}.
* **Figures** of this seed, in percent where they are shares, seconds on the processor that [the
  comparison](photographs.md#results) names; a job that is not listed was not run.

{figures}
"""


def _told(job: Job, out: Path) -> str:
    found = {k: v for k, v in figures_of(out, job.name).items() if isinstance(v, int | float)}
    return ', '.join(f'{key} {value:.4g}' for key, value in found.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', type=Path, help='folder of the experiment')
    parser.add_argument('--method', default=CLIP, help='of the student; default %(default)s')
    parser.add_argument('--seed', type=int, default=0, help='default 0')
    parser.add_argument('--commit', required=True, help='of the code that has trained them')
    args = parser.parse_args()
    for path, digest in ship(args.out, args.method, args.seed, args.commit).items():
        print(path, digest)


if __name__ == '__main__':
    main()
