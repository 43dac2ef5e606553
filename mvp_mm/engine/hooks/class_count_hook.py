import functools
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...datasets.same_classes import classes_of, differing, require_same_classes

# mmpretrain's, mmseg's two, and mmdet's of one stage and of two
HEADS = ('head', 'decode_head', 'auxiliary_head', 'bbox_head', 'roi_head.bbox_head', 'roi_head.mask_head')


@HOOKS.register_module()
class ClassCountHook(Hook):
    """Compare the heads' number of classes with the datasets', before training and testing.

    The heads follow the config, not the data: an ImageNet folder that lacks a class is a ``ValueError``, not
    a smaller classifier. So are different classes in training and validation.
    """

    _trained: tuple[str, ...] = ()

    def before_train(self, runner: Runner) -> None:
        """Check the images of training and of validation, which would be read an epoch later only."""
        self._check(runner, runner.train_dataloader.dataset)
        if runner.val_loop is None:
            return
        self._check(runner, runner.val_dataloader.dataset)
        require_same_classes(runner.train_dataloader.dataset, runner.val_dataloader.dataset)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
        meta = (meta.get('dataset_meta') if isinstance(meta, dict) else None) or {}
        self._trained = tuple(meta.get('classes') or ())

    def before_test(self, runner: Runner) -> None:
        """Check the test images; warn where the checkpoint was trained on other classes."""
        dataset = runner.test_dataloader.dataset
        self._check(runner, dataset)
        pairs = differing(self._trained, classes_of(dataset))
        if pairs:
            first, here = pairs[0]
            runner.logger.warning(
                f'The checkpoint was trained on other classes than the images have: {len(pairs)} have '
                f'another name, the first {first!r} there and {here!r} here'
            )

    @staticmethod
    def _check(runner: Runner, dataset: BaseDataset) -> None:
        """Raise ValueError if the classes of a dataset are not as many as the heads'."""
        model = runner.model
        while hasattr(model, 'module'):  # of DDP, of test-time augmentation
            model = model.module
        heads = {name: _attribute(model, f'{name}.num_classes') for name in HEADS}
        classes = classes_of(dataset)
        wrong = {name: number for name, number in heads.items() if number not in (None, len(classes))}
        if not wrong:
            return
        names = ', '.join(map(str, classes[:3])) + (', ...' if len(classes) > 3 else '')
        options = ' '.join(f'model.{name}.num_classes={len(classes)}' for name in wrong)
        outputs = next(iter(wrong.values()))
        raise ValueError(
            f'the images have {len(classes)} classes ({names}), and the head has {outputs}: add '
            f'--cfg-options {options}, or, if the images should have {outputs} classes, complete the '
            f'{"folder" if "head" in wrong else "metainfo of the datasets"}'
        )


def _attribute(value: Any, path: str) -> Any:
    """Return the attribute at a dotted path; None if there is none."""
    return functools.reduce(lambda found, name: getattr(found, name, None), path.split('.'), value)
