"""Rank pre-trainings by what is read after a tenth of them; see :mod:`ranking`.

Command: python -m experiments.miniature.rank FOLDER [FOLDER ...] [--miou FOLDER ...]
"""

import argparse
import json
import re
from collections.abc import Iterable
from pathlib import Path

from .ranking import Run, report

# On which the rule is fixed: targets of every kind. On the others it is tested.
FIXED = ('pixel', 'dino', 'clip', 'clip-masked-only')
WATCHED = re.compile(r'watch-(?P<guidance>.+)-s(?P<seed>\d+)\.json')
# Without labels and names, and not of the target alone.
OF_STUDENT = re.compile('alignment/(?!target_|.*_constant)')


def runs_in(folders: Iterable[Path], results: Iterable[Path]) -> list[Run]:
    """Collect the runs that were looked at after a tenth and have a segmentation with 300 labels."""
    results = list(results)
    found = []
    for folder in folders:
        for path in sorted(folder.glob('watch-*.json')):
            name = WATCHED.fullmatch(path.name)
            early = json.loads(path.read_text()).get('1')
            if name is None or early is None:
                continue
            file = f'segment-{name["guidance"]}-s{name["seed"]}-n300.json'
            done = [folder / file for folder in results if (folder / file).is_file()]
            if done:
                miou = json.loads(done[0].read_text())['miou']
                quantities = {key.split('/')[1]: early[key] for key in early if OF_STUDENT.match(key)}
                found.append(Run(name['guidance'], int(name['seed']), quantities, miou))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folders', type=Path, nargs='+', help='experiments with looked-at students')
    parser.add_argument(
        '--miou', type=Path, nargs='+', default=[], help='experiments with segmentations, too'
    )
    args = parser.parse_args()
    runs = runs_in(args.folders, [*args.folders, *args.miou])
    for run in sorted(runs, key=lambda run: -run.miou):
        print(f'{run.guidance} {run.seed}: {run.miou:.1f} mIoU')
    fixed = [run for run in runs if run.guidance in FIXED]
    print(report(fixed, [run for run in runs if run.guidance not in FIXED]))


if __name__ == '__main__':
    main()
