"""Turn a work dir or a checkpoint into an entry of a zoo, and print its row for a metafile.

The folder that it writes is a zoo for `MVP_MM_ZOO=DIR`, `mvp_mm.add_zoo(DIR)` and, served as it is by any web
server, `mvp_mm.add_zoo(ADDRESS)`. The whole config is published with the paths in it. See docs/model_zoo.md.
"""

import argparse
from pathlib import Path

from mvp_mm.engine import run_command_line
from mvp_mm.zoo.publish import publish


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', metavar='RUN', help='work dir (its last checkpoint), or a checkpoint')
    parser.add_argument('--zoo', type=Path, required=True, metavar='DIR', help='folder of the zoo')
    parser.add_argument('--name', help="of the model (default: the work dir's)")
    parser.add_argument('--config', help='default: the one in the work dir')
    parser.add_argument('--metrics', metavar='FILE', help='what `tools/test.py --out FILE` wrote')
    parser.add_argument('--note', default='', help='a word for the row')
    args = parser.parse_args()
    published = publish(args.source, args.zoo, args.name, args.config, args.metrics, args.note)
    for path in (published.weights, published.config, published.metrics, published.index):
        print(path)
    print(f'\nIts row, for any metafile:\n\n{published.row_as_yaml()}')


if __name__ == '__main__':
    run_command_line(main)
