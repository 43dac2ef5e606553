"""Download the published weights of models by name, and print where they lie.

An interrupted download goes on at the next call. The folder is mvp_mm in torch.hub's, which TORCH_HOME and
XDG_CACHE_HOME move. See docs/model_zoo.md.
"""

import argparse

from mvp_mm.engine import run_command_line
from mvp_mm.zoo import add_zoo, download_weights


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('names', nargs='+', metavar='NAME', help='a model: `mvp-mm models` lists them')
    parser.add_argument(
        '--zoo', action='append', default=[], metavar='PLACE', help='folder or address of a further zoo'
    )
    args = parser.parse_args()
    for place in args.zoo:
        add_zoo(place)
    for name in args.names:
        print(download_weights(name))


if __name__ == '__main__':
    run_command_line(main)
