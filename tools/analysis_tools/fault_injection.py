"""Kill trainings, cut checkpoints and spoil images on purpose; report whether the results are the same.

    python tools/analysis_tools/fault_injection.py --out fault_injection.md

The report grows after each kind of fault. The exit status is 1 if any run ended differently than the
undisturbed one. See docs/reliability.md. 0 leaves a kind out:

    python tools/analysis_tools/fault_injection.py --kills 0 --rank-kills 0 --cuts 0 --images 0
"""

import argparse
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a clone's programs, which are not installed
sys.path.insert(1, str(Path(__file__).resolve().parents[2] / 'tests'))

from faults import bad_images, kills, report, shard_run

import mvp_mm.engine as engine


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--kills', type=int, default=50, help='of a run of one process (default 50)')
    parser.add_argument(
        '--shard-kills', type=int, default=20, help='of a run over shards in a small cache (default 20)'
    )
    parser.add_argument('--rank-kills', type=int, default=10, help='of one of two processes (default 10)')
    parser.add_argument('--cuts', type=int, default=20, help='of the last checkpoint (default 20)')
    parser.add_argument('--images', type=int, default=2000, help='a twentieth is bad (default 2000)')
    parser.add_argument('--epochs', type=int, default=3, help='of the runs that are killed (default 3)')
    parser.add_argument('--seed', type=int, default=0, help='of the moments and lengths (default 0)')
    parser.add_argument('--out', type=Path, help='write the report to this file')
    parser.add_argument('--keep', type=Path, help='folder in which runs and logs stay')
    args = parser.parse_args()
    if args.epochs < 1 or min(args.kills, args.shard_kills, args.rank_kills, args.cuts, args.images) < 0:
        parser.error('--epochs is 1 or more, the others are 0 or more')
    if args.images % 200:
        parser.error(f'--images {args.images} is no multiple of 200')

    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        parts, went_well = [], []
        for part, is_well in sweep(args, folder):
            print(part, end='\n\n', flush=True)
            parts.append(part)
            went_well.append(is_well)
            minutes = (time.monotonic() - begin) / 60
            if args.out:
                args.out.write_text('\n\n'.join([*parts, f'{minutes:.1f} min to here.\n']))
    if not all(went_well):
        sys.exit('ERROR: not all runs ended as the undisturbed one')


def sweep(args: argparse.Namespace, folder: Path) -> Iterator[tuple[str, bool]]:
    """All faults, one kind after the other: each one's part of the report, and whether it went well."""
    draw = random.Random(args.seed)
    command = shlex.join(['python', 'tools/analysis_tools/fault_injection.py', *sys.argv[1:]])
    yield report.heading(command), True

    if args.kills or args.cuts:
        whole = kills.run_baseline(folder, epochs=args.epochs)
    if args.kills:
        outcomes = [
            kills.kill_and_resume(whole, folder / f'kill_{i}', kills.KILLED_IN[i % 3], draw)
            for i in track(range(args.kills), 'SIGKILL')
        ]
        yield report.kills_section('SIGKILL, then `--resume`', whole, outcomes), report.all_same(outcomes)

    if args.shard_kills:
        parts = folder / 'over_shards'
        over = kills.run_baseline(parts, epochs=args.epochs, adapt=shard_run.over_shards(parts))
        of_shards = [
            kills.kill_and_resume(over, parts / f'kill_{i}', kills.KILLED_IN[i % 3], draw)
            for i in track(range(args.shard_kills), 'SIGKILL over shards')
        ]
        title = 'SIGKILL over shards that a slow network brings, then `--resume`'
        once = shard_run.each_once(over, args.epochs, kills.IMAGES)
        told = (
            f'Two loader workers read 8 shards through a cache that holds three; a transfer takes '
            f'{shard_run.SECONDS:g} s. {"Each" if once else "NOT each"} of {kills.IMAGES} samples came once '
            'an epoch.'
        )
        went_well = once and report.all_same(of_shards)
        yield f'{report.kills_section(title, over, of_shards)}\n\n{told}', went_well

    if args.rank_kills:
        both = kills.run_baseline(folder, processes=2, epochs=args.epochs)
        of_ranks = [
            kills.kill_one_rank(both, folder / f'rank_{i}', kills.KILLED_IN[i % 3], draw)
            for i in track(range(args.rank_kills), 'SIGKILL of one of two')
        ]
        title = 'SIGKILL of one of two processes, started again by `MAX_RESTARTS=1`'
        yield report.kills_section(title, both, of_ranks), report.all_same(of_ranks)

    if args.cuts:
        cuts = [
            kills.truncate_and_resume(whole, folder / f'cut_{i}', draw)
            for i in track(range(args.cuts), 'Cut checkpoints')
        ]
        yield report.truncations_section(cuts), report.all_same(cuts)

    if args.images:
        spoilt, listed, _ = bad_images.train_with_bad_images(folder / 'bad', args.images, args.images // 20)
        yield report.bad_images_section(args.images, spoilt, listed), spoilt.keys() == listed.keys()


if __name__ == '__main__':
    engine.run_command_line(main, quiet=True)
