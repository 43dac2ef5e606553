"""A classifier and its data have the same classes, or the run does not begin."""

from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class ClassCountHook(Hook):
    """Compare the head's number of classes with the datasets', before training and testing.

    The head's number stays what the config says, because an ImageNet folder that lacks a class should be
    an error and not a smaller classifier.

    Raises:
        ValueError: If they differ, or training and validation images have different classes.
    """

    def before_train(self, runner: Runner) -> None:
        """Check the training images, and those of validation, which would be read an epoch later only."""
        train = runner.train_dataloader.dataset
        self._check(runner, train)
        if runner.val_loop is None:
            return
        val = runner.val_dataloader.dataset
        self._check(runner, val)
        classes = [tuple(dataset.metainfo.get('classes') or ()) for dataset in (train, val)]
        if classes[0] != classes[1]:
            name, other = next(pair for pair in zip(*classes, strict=True) if pair[0] != pair[1])
            raise ValueError(
                f'training and validation images have different classes (the first difference: {name!r} and '
                f'{other!r}): train/ and val/ need the same sub-folders'
            )

    def before_test(self, runner: Runner) -> None:
        """Check the test images."""
        self._check(runner, runner.test_dataloader.dataset)

    @staticmethod
    def _check(runner: Runner, dataset: BaseDataset) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        outputs = model.head.num_classes
        classes = dataset.metainfo.get('classes') or ()
        if len(classes) != outputs:
            names = ', '.join(map(str, classes[:3])) + (', ...' if len(classes) > 3 else '')
            raise ValueError(
                f'the images have {len(classes)} classes ({names}), and the head has {outputs}: add '
                f'--cfg-options model.head.num_classes={len(classes)}, or, if the images should have '
                f'{outputs} classes, complete the folder'
            )
