from types import SimpleNamespace

import pytest

from mvp_mm.engine import ClassCountHook


def runner(train, val=None, **heads):
    """A runner whose datasets have these classes, and whose model is wrapped."""
    model = SimpleNamespace(**{name: SimpleNamespace(num_classes=number) for name, number in heads.items()})
    loaders = [
        SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=classes or ())))
        for classes in (train, val)
    ]
    return SimpleNamespace(
        model=SimpleNamespace(module=model),
        train_dataloader=loaders[0],
        val_dataloader=loaders[1],
        test_dataloader=loaders[0],
        val_loop=None if val is None else object(),
    )


def test_equal_numbers_pass():
    for call in (ClassCountHook().before_train, ClassCountHook().before_test):
        call(runner(['a', 'b'], ['a', 'b'], head=2))
        call(runner(['a', 'b'], decode_head=2, auxiliary_head=2))
        call(runner([], neck=3))


def test_another_number_of_classes():
    message = (
        r'have 4 classes \(a, b, c, ...\), and the head has 2: add --cfg-options model.head.num_classes=4'
    )
    with pytest.raises(ValueError, match=message + '.*complete the folder'):
        ClassCountHook().before_train(runner('abcd', head=2))
    both = 'model.decode_head.num_classes=2 model.auxiliary_head.num_classes=2, .* metainfo of the datasets'
    with pytest.raises(ValueError, match=both):
        ClassCountHook().before_test(runner('ab', decode_head=3, auxiliary_head=3))


def test_another_order_of_classes():
    with pytest.raises(ValueError, match="the first difference: 'b' and 'c'"):
        ClassCountHook().before_train(runner('abc', 'acb', head=3))


def test_heads_of_a_detector():
    wrapped = runner('ab', roi_head=3)
    heads = SimpleNamespace(num_classes=2), SimpleNamespace(num_classes=80)
    wrapped.model.module.roi_head = SimpleNamespace(bbox_head=heads[0], mask_head=heads[1])
    with pytest.raises(ValueError, match=r'--cfg-options model.roi_head.mask_head.num_classes=2,'):
        ClassCountHook().before_test(wrapped)


def test_a_checkpoint_of_other_classes_is_told():
    told, hook = [], ClassCountHook()
    run = runner('bc', head=2)
    run.logger = SimpleNamespace(warning=told.append)
    for meta, count in ((None, 0), (dict(dataset_meta=dict(classes=['b', 'c'])), 0)):
        hook.after_load_checkpoint(run, dict(meta=meta))
        hook.before_test(run)
        assert len(told) == count
    hook.after_load_checkpoint(run, dict(meta=dict(dataset_meta=dict(classes=['a', 'b']))))
    hook.before_test(run)
    assert "2 have another name, the first 'a' there and 'b' here" in told[0]
