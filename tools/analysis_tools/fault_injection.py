"""Kill trainings, cut checkpoints and spoil images on purpose; report whether the results are the same.

    python tools/analysis_tools/fault_injection.py --out fault_injection.md

The exit status is 1 if any run ended differently than the undisturbed one. See docs/reliability.md.
"""

import argparse
import random
import shlex
import sys
import tempfile
import time
from pathlib import Path

from rich.progress import track

import mvp_mm.engine as engine
from mvp_mm.faults import bad_images, kills, report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--kills', type=int, default=50, help='of a run of one process (default 50)')
    parser.add_argument(
        '--rank-kills', type=int, default=10, help='of one of two processes; 0 leaves them out (default 10)'
    )
    parser.add_argument('--cuts', type=int, default=20, help='of the last checkpoint (default 20)')
    parser.add_argument('--images', type=int, default=2000, help='a twentieth is bad (default 2000)')
    parser.add_argument('--epochs', type=int, default=3, help='of the runs that are killed (default 3)')
    parser.add_argument('--seed', type=int, default=0, help='of the moments and lengths (default 0)')
    parser.add_argument('--out', type=Path, help='write the report to this file')
    parser.add_argument('--keep', type=Path, help='folder in which runs and logs stay')
    args = parser.parse_args()
    if min(args.kills, args.cuts, args.epochs) < 1 or args.rank_kills < 0:
        parser.error('--kills, --cuts and --epochs are 1 or more, --rank-kills 0 or more')
    if args.images < 200 or args.images % 200:
        parser.error(f'--images {args.images} is no multiple of 200')

    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        text, is_well = sweep(args, folder)
    minutes = (time.monotonic() - begin) / 60
    text += f'\n\nThe whole sweep took {minutes:.1f} min, with other jobs on the machine or without.\n'
    print(text)
    if args.out:
        args.out.write_text(text)
    if not is_well:
        sys.exit('\nERROR: not all runs ended as the undisturbed one')


def sweep(args: argparse.Namespace, folder: Path) -> tuple[str, bool]:
    """All faults, one after the other: the report, and whether all went well."""
    draw = random.Random(args.seed)
    parts = [report.heading(shlex.join(['python', 'tools/analysis_tools/fault_injection.py', *sys.argv[1:]]))]

    whole = kills.run_undisturbed(folder, epochs=args.epochs)
    outcomes = [
        kills.kill_and_resume(whole, folder / f'kill_{i}', kills.KILLED_IN[i % 3], draw)
        for i in track(range(args.kills), 'SIGKILL')
    ]
    parts.append(report.kills_section('SIGKILL, then `--resume`', whole, outcomes))

    if args.rank_kills:
        both = kills.run_undisturbed(folder, processes=2, epochs=args.epochs)
        of_ranks = [
            kills.kill_one_rank(both, folder / f'rank_{i}', kills.KILLED_IN[i % 3], draw)
            for i in track(range(args.rank_kills), 'SIGKILL of one of two')
        ]
        title = 'SIGKILL of one of two processes, started again by `MAX_RESTARTS=1`'
        parts.append(report.kills_section(title, both, of_ranks))
        outcomes += of_ranks

    cuts = [
        kills.truncate_and_resume(whole, folder / f'cut_{i}', draw)
        for i in track(range(args.cuts), 'Cut checkpoints')
    ]
    parts.append(report.truncations_section(cuts))

    spoilt, listed, _ = bad_images.train_with_bad_images(folder / 'bad', args.images, args.images // 20)
    parts.append(report.bad_images_section(args.images, spoilt, listed))
    return '\n\n'.join(parts), report.all_is_well(outcomes + cuts, spoilt, listed)


if __name__ == '__main__':
    engine.run_command_line(main)
