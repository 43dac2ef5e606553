"""Run by torchrun in two processes: write the statistics that each finds of its half of two batches."""

import json
import sys
from pathlib import Path

import torch.distributed as dist
from test_models.test_mvp.test_standardiser import batches

from mvp_mm.models.mvp.standardiser import Standardiser


def main() -> None:
    dist.init_process_group('gloo')
    rank, found = dist.get_rank(), {}
    for method in ('dimensions', 'phi-s'):
        standardiser = Standardiser(4, method, 2)
        for targets in batches(2, size=6):
            standardiser(targets[rank * 3 : rank * 3 + 3], 1)
        found[method] = {name: value.tolist() for name, value in standardiser.state_dict().items()}
    (Path(sys.argv[1]) / f'found{rank}.json').write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
