"""A few labelled samples of each class of any dataset."""

import logging
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmpretrain.registry import DATASETS
from torch.utils.data import Dataset

from ...models.prompts.base_to_new import classes_of
from ...wording import listed
from ..samplers.sample_index import SampleIndex


@DATASETS.register_module()
class FewShot(Dataset):
    """K samples a class, drawn by the seed alone: the same on any number of processes and workers.

    Labels stay those of the whole dataset. A class that has fewer samples gives all of them. A sample that
    cannot be read is an error, as its replacement would be of another class or beyond the K.

    Args:
        dataset: Config of a classification dataset, such as ``LabelledImages`` or ``SceneImages``.
        shots: K. Default None: all samples.
        seed: Of the draw; each class draws by (seed, label). Default 0.
        classes: ``'all'`` (default), ``'base'``, the first half of the labels rounded up, or ``'new'``.

    Raises:
        ValueError: If an argument is none of these, or the dataset has no classes.
    """

    def __init__(
        self, dataset: dict | BaseDataset, shots: int | None = None, seed: int = 0, classes: str = 'all'
    ) -> None:
        if shots is not None and shots < 1:
            raise ValueError(f'shots={shots}: expected 1 or more, or None for all')
        self.dataset: Any = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.dataset.full_init()
        self.dataset.replaces_unreadable = False
        names = self.metainfo.get('classes')
        if not names:
            raise ValueError(f'{type(self.dataset).__name__} has no classes to draw samples of')
        labels = np.array([self.dataset.get_cat_ids(index)[0] for index in range(len(self.dataset))])
        chosen, few = [], []
        for label in classes_of(classes, len(names)):
            found = np.flatnonzero(labels == label)
            if shots is not None:
                few += [f'{names[label]} ({len(found)})'] if len(found) < shots else []
                found = np.random.default_rng((seed, label)).permutation(found)[:shots]
            chosen.append(found)
        self.indices: list[int] = np.concatenate(chosen).tolist()
        if not self.indices:
            raise ValueError(f'{type(self.dataset).__name__} has no sample of the {classes} classes')
        if few:
            told = f'Fewer than {shots} samples, all of them used, of: {listed(few, 3)}'
            print_log(told, 'current', level=logging.WARNING)

    @property
    def metainfo(self) -> dict:
        """Of the whole dataset."""
        return self.dataset.metainfo

    def full_init(self) -> None:
        """Nothing is left to initialise."""

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        inner = self.indices[index]
        if isinstance(index, SampleIndex):  # the sample draws by it
            inner = SampleIndex(inner, index.epoch, index.seed)
        return self.dataset[inner]

    def get_data_info(self, index: int) -> dict:
        """Return a sample before the pipeline."""
        return self.dataset.get_data_info(self.indices[index])

    def get_cat_ids(self, index: int) -> list[int]:
        """Return the label of a sample in a list."""
        return self.dataset.get_cat_ids(self.indices[index])
