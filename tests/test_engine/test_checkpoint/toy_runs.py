"""A toy training, and what it leaves in its folder."""

from pathlib import Path

import numpy as np
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from torch import nn

from mvp_mm.engine.checkpoint import work_dir_lock


class Toy(BaseModel):
    """The smallest model that trains and has a score."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x, mode='loss'):
        output = self.norm(self.layer(x))
        return dict(loss=output.pow(2).mean()) if mode == 'loss' else list(output)


class Score(Evaluator):
    """Gives one number after another."""

    def __init__(self, values):
        super().__init__([])
        self.values = iter(values)

    def process(self, data_samples, data_batch):
        """Nothing to look at."""

    def evaluate(self, size):
        """The next score, of numpy's kind as metrics give them."""
        return {'score': np.float64(next(self.values))}


def names(folder):
    files = [path for path in Path(folder).iterdir() if path.is_file() and path.suffix != '.py']
    return sorted(path.name for path in files if path.name != work_dir_lock.NAME)
