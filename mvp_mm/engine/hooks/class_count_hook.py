import functools
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

# mmpretrain's, mmseg's two, and mmdet's of one stage and of two
HEADS = ('head', 'decode_head', 'auxiliary_head', 'bbox_head', 'roi_head.bbox_head', 'roi_head.mask_head')


@HOOKS.register_module()
class ClassCountHook(Hook):
    """Compare the heads' number of classes with the datasets', before training and testing.

    The heads follow the config, not the data: an ImageNet folder that lacks a class is a ``ValueError``, not
    a smaller classifier. So are different classes in training and validation.
    """

    def before_train(self, runner: Runner) -> None:
        """Check the images of training and of validation, which would be read an epoch later only."""
        train = self._check(runner, runner.train_dataloader.dataset)
        if runner.val_loop is None:
            return
        val = self._check(runner, runner.val_dataloader.dataset)
        differing = next((pair for pair in zip(train, val, strict=True) if pair[0] != pair[1]), None)
        if differing:
            raise ValueError(
                'training and validation images have different classes (the first difference: '
                f'{differing[0]!r} and {differing[1]!r}): both need the same ones in the same order'
            )

    def before_test(self, runner: Runner) -> None:
        """Check the test images."""
        self._check(runner, runner.test_dataloader.dataset)

    @staticmethod
    def _check(runner: Runner, dataset: BaseDataset) -> tuple:
        """Return the classes of a dataset, if they are as many as the heads'."""
        model = runner.model
        while hasattr(model, 'module'):  # of DDP, of test-time augmentation
            model = model.module
        heads = {name: _attribute(model, f'{name}.num_classes') for name in HEADS}
        classes = tuple(dataset.metainfo.get('classes') or ())
        wrong = {name: number for name, number in heads.items() if number not in (None, len(classes))}
        if not wrong:
            return classes
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
