import pytest
from mmengine.config import Config

from mvp_mm.weights.config_text import value_in_config


def test_the_text_of_a_checkpoint(formatted_configs):
    model = dict(type='A', size=(8, 12), scale=-1.5, parts=[dict(on=None, name='it\'s "b"'), {'a.b': True}])
    text = Config(dict(model=model, other=1)).pretty_text
    expected = dict(model, size=[8, 12])
    assert value_in_config(text, 'model') == expected and value_in_config(text, 'other') == 1
    assert value_in_config(text, 'absent') is None


@pytest.mark.parametrize('text', [None, 3, 'model = (', 'import os', ''])
def test_no_config(text):
    assert value_in_config(text, 'model') is None
    assert value_in_config(b'model = 1', 'model') == 1


def test_nothing_is_run():
    for value in ('open("x")', 'dict(a=print(1))', 'dict(3)', '[x for x in y]'):
        with pytest.raises(ValueError):
            value_in_config(f'model = {value}', 'model')
