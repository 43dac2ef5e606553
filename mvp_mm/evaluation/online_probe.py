"""A linear classifier that is trained beside a pre-training and does not disturb it."""

import logging
from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import count
from typing import Any

import torch
from mmengine.dist import all_reduce, get_dist_info
from mmengine.logging import print_log
from mmpretrain.registry import EVALUATORS, OPTIMIZERS
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init
from torch.utils.data import DataLoader

from ..datasets.same_classes import classes_of
from ..datasets.samplers.epoch_sampler import epoch_order
from ..datasets.samplers.sample_index import SampleIndex
from ..models.compilation import require_choice
from ..models.student import student_of
from .evaluator import Evaluator, prepared, undisturbed

# BEiT's linear evaluation (run_linear_eval.py): 1e-3 for each 256 images. The scale of the features changes
# while the student learns, and AdamW's steps do not depend on it.
OPTIMIZER = dict(type='AdamW', lr=1e-3, weight_decay=1e-4)


@EVALUATORS.register_module()
class OnlineProbe(Evaluator):
    """Linear classifier of a student's features, trained while the student is pre-trained.

    Every ``train_interval`` iterations it makes a step on labelled images of its own. The student is in eval
    mode, without gradient, and trains exactly as without a probe. The probe trails the student: it is a
    curve to compare runs by, below the accuracy of a probe that is trained to the end.

    Reported: ``top1``, ``top5`` (with more than five classes), both in percent, and ``cross_entropy``, the
    probe's loss on these images. Several processes share each batch and make the same step as one. The images
    of a step follow from seed and step alone; weights, optimiser and step are in the run's checkpoints.

    Args:
        dataloader: Images to evaluate on, with ``gt_label``.
        train_dataloader: Images to train on, with ``gt_label``. Its ``batch_size`` is that of all processes
            together, and they are shuffled by (seed, epoch) whatever the sampler.
        num_classes: Default None: as many as the training images' dataset says.
        pooling: ``'both'`` (default) concatenates CLS and the mean patch token; or ``'cls'``, ``'mean'``.
        train_interval: Iterations of the run for each step. Default 1.
        optimizer: Config. Default AdamW with lr 1e-3 and weight decay 1e-4 (BEiT, for 256 images a step).
        **kwargs: See :class:`Evaluator`. The default ``prefix`` is ``'online_probe'``.

    Raises:
        ValueError: If an argument is none of the above, or the loaders' datasets have different classes.
    """

    default_prefix = 'online_probe'

    def __init__(
        self,
        dataloader: DataLoader,
        train_dataloader: DataLoader,
        num_classes: int | None = None,
        pooling: str = 'both',
        train_interval: int = 1,
        optimizer: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(dataloader, **kwargs)
        require_choice(pooling, 'pooling', ('both', 'cls', 'mean'))
        if train_interval < 1:
            raise ValueError(f'OnlineProbe: train_interval={train_interval}: expected 1 or more')
        told = {len(classes_of(loader.dataset)) for loader in (dataloader, train_dataloader)} - {0}
        numbers = told if num_classes is None else told | {num_classes}
        if len(numbers) != 1:
            raise ValueError(
                f'OnlineProbe: num_classes={num_classes}, and the datasets of its loaders have '
                f'{sorted(told) or "unknown"} classes: expected one number (num_classes where none is told)'
            )
        (self.num_classes,) = numbers
        self.train_dataloader, self.pooling, self.train_interval = train_dataloader, pooling, train_interval
        self.optimizer_cfg = OPTIMIZER if optimizer is None else optimizer
        self._seed = getattr(train_dataloader.sampler, 'seed', None) or 0
        self._step = 0
        self._images: Iterator | None = None  # of the steps that follow
        self._classifier: nn.Linear | None = None  # built where the width of the features is known
        self._optimizer: Any = None
        self._loaded: dict | None = None

    def require(self, model: nn.Module) -> None:
        """Refuse a model without a student."""
        student_of(model)

    def after_train_iter(self, model: nn.Module, iteration: int) -> None:
        """Make a step if it is due after ``iteration`` iterations of the run."""
        if iteration % self.train_interval:
            return
        with undisturbed(model):
            if self._images is None:
                self._images = iter(self._loader())
            batch = prepared(model, next(self._images))
            features, labels = map(self._of_all, self._labelled(model, batch))
            classifier = self._ready(features)
            with torch.enable_grad():
                F.cross_entropy(classifier(features), labels).backward()
            self._optimizer.step()
            self._optimizer.zero_grad()
            self._step += 1

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Classify the images; no figures from a probe that has made no step."""
        if not self._step:
            told = f'{self.prefix} has made no step and the checkpoint holds none: it is left out'
            print_log(told, 'current', logging.WARNING)
            return {}
        total = self.total(self._sums(model, batch) for batch in self.batches(model, self.dataloader))
        figures = {name: (total[name] / total['images']).item() for name in total.keys() - {'images'}}
        return {name: figures[name] for name in ('top1', 'top5', 'cross_entropy') if name in figures}

    def _sums(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        features, labels = self._labelled(model, batch)
        scores = self._ready(features)(features)
        right = 100 * (scores.topk(min(5, self.num_classes), dim=1).indices == labels[:, None]).double()
        sums = dict(images=torch.tensor(len(labels)), top1=right[:, 0].sum())
        # not `loss`: MMEngine logs the mean of what is called so over several evaluations
        sums['cross_entropy'] = F.cross_entropy(scores, labels, reduction='sum')
        return dict(sums, top5=right.sum()) if self.num_classes > 5 else sums

    def _labelled(self, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """Return a batch's features, float32, and labels."""
        student: Any = student_of(model)
        cls, patches = student.encode_image(batch['inputs'])
        if cls is None and self.pooling != 'mean':
            raise ValueError("the student has no CLS token: use pooling='mean'")
        parts = dict(cls=[cls], mean=[patches.mean(1)], both=[cls, patches.mean(1)])[self.pooling]
        features = torch.cat(parts, dim=1).float()
        return features, self.labels(batch).to(features.device)

    def _loader(self) -> DataLoader:
        """Read this process's share of each step's images, from the next step on."""
        loader: Any = self.train_dataloader
        if loader.batch_size < get_dist_info()[1]:
            raise ValueError(f'{self.prefix}: batch_size={loader.batch_size} is less than an image a process')
        options = ('num_workers', 'collate_fn', 'pin_memory', 'worker_init_fn')
        settings = {name: getattr(loader, name) for name in options}
        steps = _steps(len(loader.dataset), loader.batch_size, self._seed, self._step)
        return DataLoader(loader.dataset, batch_sampler=steps, **settings)

    def _of_all(self, own: Tensor) -> Tensor:
        """Gather a batch's values ``(share, ...)`` of all processes as one process would have them."""
        rank, world = get_dist_info()
        values = own.new_zeros(self.train_dataloader.batch_size or 0, *own.shape[1:])
        values[rank::world] = own
        all_reduce(values)
        return values

    def _ready(self, features: Tensor) -> nn.Linear:
        """Return the classifier, built at first use: of zeros, so that nothing is drawn, or as loaded."""
        if self._classifier is None:
            width = features.shape[1]
            classifier = skip_init(nn.Linear, width, self.num_classes, device=features.device)
            for parameter in classifier.parameters():
                nn.init.zeros_(parameter)
            self._optimizer = OPTIMIZERS.build({**self.optimizer_cfg, 'params': [*classifier.parameters()]})
            if self._loaded is not None:
                classifier.load_state_dict(self._loaded['classifier'])
                groups = self._optimizer.state_dict()['param_groups']  # settings are this run's
                self._optimizer.load_state_dict(dict(self._loaded['optimizer'], param_groups=groups))
            self._classifier, self._loaded = classifier, None
        return self._classifier

    def state_dict(self) -> dict:
        """Return what a resumed run needs, as plain data."""
        state = dict(step=self._step, seed=self._seed, settings=self._settings())
        if self._classifier is None:
            return dict(self._loaded or {}, **state)
        return dict(state, classifier=self._classifier.state_dict(), optimizer=self._optimizer.state_dict())

    def load_state_dict(self, state: dict) -> None:
        """Continue from a :meth:`state_dict`; ValueError if it is another probe's."""
        if state['settings'] != self._settings():
            raise ValueError(
                f'{self.prefix}: the checkpoint has a probe of {state["settings"]}, and this is one of '
                f'{self._settings()}: use the same settings, or give the new one a prefix of its own'
            )
        self._step, self._seed, self._images, self._classifier = state['step'], state['seed'], None, None
        self._loaded = state if 'classifier' in state else None

    def _settings(self) -> dict:
        kind = self.optimizer_cfg['type']
        settings = dict(num_classes=self.num_classes, pooling=self.pooling)
        return dict(settings, optimizer=getattr(kind, '__name__', kind))


def _steps(size: int, batch: int, seed: int, first: int) -> Iterator[list[SampleIndex]]:
    """Yield a process's share of each step's images, which are a function of (seed, step), without end."""
    rank, world = get_dist_info()
    order = lru_cache(2)(partial(epoch_order, size, True, seed))
    for start in count(first * batch, batch):
        places = (divmod(place, size) for place in range(start + rank, start + batch, world))
        yield [SampleIndex(order(epoch)[place], epoch, seed) for epoch, place in places]
