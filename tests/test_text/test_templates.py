"""Sentences around a class's name."""

import open_clip
import pytest

from mvp_mm.text.templates import TEMPLATES, filled


def test_the_80_sentences_are_clips():
    sentences = filled('openai', 'dog')
    assert len(set(sentences)) == 80
    assert sentences[0] == 'a bad photo of a dog.' and sentences[-1] == 'a tattoo of the dog.'
    assert sentences == [template('dog') for template in open_clip.OPENAI_IMAGENET_TEMPLATES]


def test_seven_and_none():
    assert len(filled('simple', 'dog')) == 7 and filled('simple', 'dog')[0] == 'itap of a dog.'
    assert filled('plain', 'dog') == ['dog']


def test_own_templates_may_be_strings_or_functions():
    assert filled(['a {}.', lambda name: name.upper()], 'dog {0}') == ['a dog {0}.', 'DOG {0}']


@pytest.mark.parametrize(
    'templates, message',
    [
        ('opneai', f"templates 'opneai' are unknown: expected {', '.join(TEMPLATES)} or a list"),
        ([], 'templates is empty'),
        (['a dog'], "template 'a dog' has no place for a name"),
    ],
)
def test_wrong_templates_are_named(templates, message):
    with pytest.raises(ValueError, match=message):
        filled(templates, 'dog')
