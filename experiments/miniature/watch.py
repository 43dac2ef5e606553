"""Look at students of the scenes while they learn: by names where they speak, and without labels."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

import mvp_mm.datasets.segmentation  # noqa: F401  (registers the scenes' label maps)
from mvp_mm.datasets.scenes import CLASSES, COLOURS, SHAPES

COUNTS = {'train': 3000, 'test': 2000, 'named': 1000}  # scenes; the named ones are of the test split, too
# A colour stands before every shape, and an article before it, as in captions.
COLOUR_NAMES = [f'{"an" if colour == "orange" else "a"} {colour}' for colour in COLOURS]
COLOUR_TEMPLATES = [f'{{}} {shape}' for shape in SHAPES]
NEIGHBOURS = 20
KNN_SEED = 7  # as of the probes: scenes that no training has seen


class Enough(Exception):
    """A training has run as far as it should."""


class StopAfter(Hook):
    """Leave a training after so many iterations; its schedule stays that of the whole."""

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Raise :class:`Enough` after the last iteration, and after its checkpoint."""
        if runner.iter + 1 >= self.iterations:
            raise Enough


def evaluators(masked: dict | None, speaker: str | None, cache_dir: str) -> list[dict]:
    """Configs of what is looked at.

    Args:
        masked: Loader of validation scenes with masks, for the alignment; all else is of test scenes.
            None: no alignment.
        speaker: Add zero-shot and segmentation by names of the ``'student'``, or of ``'both'``, its teacher
            too. None: of neither.
        cache_dir: For rendered scenes.
    """
    found = []
    if masked is not None:
        masked['dataset']['cache_dir'] = cache_dir
        found.append(dict(type='Alignment', dataloader=masked))
    for label in ('shape', 'colour'):
        loaders = dict(dataloader=_labelled(label, 'test', COUNTS['test'], cache_dir))
        loaders['train_dataloader'] = _labelled(label, 'train', COUNTS['train'], cache_dir)
        found.append(dict(type='KNN', prefix=f'knn_{label}', ks=(NEIGHBOURS,), **loaders))
    if speaker is not None:
        loader = _labelled('shape', 'test', COUNTS['named'], cache_dir)
        found.append(dict(type='ZeroShot', prefix='shape', dataloader=loader, classes=SHAPES, of=speaker))
        names = dict(classes=COLOUR_NAMES, templates=COLOUR_TEMPLATES)
        loader = _labelled('colour', 'test', COUNTS['named'], cache_dir)
        found.append(dict(type='ZeroShot', prefix='colour', dataloader=loader, of=speaker, **names))
        scenes = dict(
            type='mmseg.SceneSegmentation', split='test', count=COUNTS['named'], cache_dir=cache_dir
        )
        scenes['pipeline'] = [dict(type='mmseg.PackSegInputs')]
        loader = _loader(scenes, collate_fn=dict(type='pseudo_collate'))
        found.append(
            dict(type='OpenVocabulary', dataloader=loader, classes=list(CLASSES), background=0, of=speaker)
        )
    return found


def _labelled(label: str, split: str, count: int, cache_dir: str) -> dict:
    pipeline = [dict(type='PackMaskedInputs', fields=('gt_label',))]
    dataset = dict(type='SceneImages', split=split, count=count, label=label, scene_seed=KNN_SEED)
    dataset |= dict(pipeline=pipeline, cache_dir=cache_dir)
    return _loader(dataset, collate_fn=dict(type='default_collate'))


def _loader(dataset: dict, **options: Any) -> dict:
    sampler = dict(type='DefaultSampler', shuffle=False)
    return dict(batch_size=100, num_workers=0, sampler=sampler, dataset=dataset, **options)
