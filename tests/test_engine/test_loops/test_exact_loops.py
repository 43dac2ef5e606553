from mmengine.runner import EpochBasedTrainLoop

from mvp_mm.engine.loops.exact_loops import exact_loop


def test_mmengines_loops_are_replaced():
    for given in ('EpochBasedTrainLoop', 'mmengine.EpochBasedTrainLoop', EpochBasedTrainLoop):
        assert exact_loop(dict(type=given, max_epochs=2)) == dict(type='ExactEpochLoop', max_epochs=2)
    assert exact_loop(dict(by_epoch=True, max_epochs=2)) == dict(type='ExactEpochLoop', max_epochs=2)
    assert exact_loop(dict(by_epoch=False, max_iters=2)) == dict(type='ExactIterLoop', max_iters=2)
    assert exact_loop(dict(type='IterBasedTrainLoop')) == dict(type='ExactIterLoop')


def test_others_stay():
    for loop in (
        dict(type='SomeLoop'),
        dict(type='ExactIterLoop'),
        dict(max_iters=2),
        dict(type='a', by_epoch=1),
    ):
        assert exact_loop(loop) == loop
