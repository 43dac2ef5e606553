"""Print what a process draws once its model is initialised; alone, or started by torchrun."""

import os
import random
import sys
import tempfile

import numpy as np
import torch
from exact_runs import Watch, build, say
from mmcv.cnn.bricks import DropPath


def main():
    launcher = 'pytorch' if 'RANK' in os.environ else 'none'
    runner = build(tempfile.mkdtemp(), Watch(), launcher=launcher, seed=3)
    runner._init_model_weights()
    weights = sum(value.double().sum().item() for value in runner.model.state_dict().values())
    dropped = DropPath(0.5).train()(torch.ones(24, 1, 1)).flatten().bool().int().tolist()
    draws = [''.join(map(str, dropped)), np.random.rand(), random.random()]
    say(f'DRAWN rank={runner.rank} {weights:.12f} {draws}')
    sys.exit()


if __name__ == '__main__':
    main()
