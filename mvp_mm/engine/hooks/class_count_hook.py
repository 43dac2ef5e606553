"""Check that a model and its data have the same classes."""

from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

HEADS = ('head', 'decode_head', 'auxiliary_head')  # mmpretrain's, and mmseg's two


@HOOKS.register_module()
class ClassCountHook(Hook):
    """Compare the heads' number of classes with the datasets', before training and testing.

    The heads follow the config, not the data: an ImageNet folder that lacks a class should be an error, a
    ``ValueError``, and not a smaller classifier. So are different classes in training and validation.
    """

    def before_train(self, runner: Runner) -> None:
        """Check the images of training and of validation, which would be read an epoch later only."""
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
                f'{other!r}): both need the same ones in the same order (class folders: the same in '
                'train/ and val/; label maps: the same metainfo)'
            )

    def before_test(self, runner: Runner) -> None:
        """Check the test images."""
        self._check(runner, runner.test_dataloader.dataset)

    @staticmethod
    def _check(runner: Runner, dataset: BaseDataset) -> None:
        model = runner.model
        while hasattr(model, 'module'):  # of DDP, of test-time augmentation
            model = model.module
        heads = {name: getattr(getattr(model, name, None), 'num_classes', None) for name in HEADS}
        classes = dataset.metainfo.get('classes') or ()
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
