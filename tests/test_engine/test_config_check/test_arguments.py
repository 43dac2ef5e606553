"""The arguments of a class follow what becomes of its ``**kwargs``."""

from mvp_mm.engine.config_check.arguments import arguments_of, keys_in_source, registered


def test_arguments_follow_what_becomes_of_them(load):
    load('upernet/vittiny_camvid.py')  # registers the segmentor

    def names(kind):
        found = arguments_of(registered(kind, 'mmpretrain'))
        return set(found.names), found.others

    scheduler = {'optimizer', 'T_max', 'eta_min', 'eta_min_ratio', 'begin', 'end', 'last_step', 'by_epoch'}
    assert names('CosineAnnealingLR') == (scheduler | {'verbose'}, False)
    assert names('torchvision/RandomHorizontalFlip') == ({'p', 'interpolation', 'dtype'}, False)
    assert {'retry_interval', 'interval', 'meta'} <= names('SafeCheckpointHook')[0]
    assert 'args' not in names('SafeCheckpointHook')[0] and not names('SafeCheckpointHook')[1]

    class Base:
        def __init__(self, a, b=1):
            pass

    class Child(Base):
        def __init__(self, c, **kwargs):
            self.d = kwargs.pop('d', None)
            super().__init__(1, **kwargs)

    class Adds(Base):
        def __init__(self, c, **kwargs):
            kwargs |= dict(a=c)
            super().__init__(**kwargs)

    class Keeper(Base):
        def __init__(self, **kwargs):
            self.kept = kwargs

    class Grandchild(Child):
        pass

    class Third(Child):
        def __init__(self, c, d, **kwargs):
            super().__init__(c, **kwargs)

    class InOrder(Third):
        def __init__(self, c, d, e, **kwargs):
            super().__init__(c, d, **kwargs)  # the first two that a Third itself takes

    assert set(arguments_of(InOrder).names) == {'b', 'c', 'd', 'e'}
    assert set(arguments_of(Grandchild).names) == {'b', 'c', 'd'} and not arguments_of(Grandchild).others
    assert set(arguments_of(Adds).names) == {'a', 'b', 'c'} and not arguments_of(Adds).others
    assert arguments_of(Keeper).others
    segmentor = registered('mmseg.WindowedEncoderDecoder')
    assert keys_in_source((segmentor,), 'test_cfg') == {'mode', 'stride', 'crop_size', 'window_batch'}
