import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from mvp_mm.console import choice
from mvp_mm.console.choice import choose
from mvp_mm.datasets.prepare.survey import Photograph, Survey

ROOT = Path(__file__).parents[2]


def of(count, sides, **options):
    photographs = [
        Photograph(f'{n}.jpg', None, (), bytes([n]), n, side, 2 * side) for n, side in enumerate(sides)
    ]
    return Survey('UnlabelledImages', dict(data_root='DIR', **options), count, photographs)


def decided(survey):
    return {made.about: made for made in choose(survey).choices}


@pytest.mark.parametrize(
    ('sides', 'what'),
    [
        ([300, 300, 300, 100], '224 x 224 pixels, patches of 16'),
        ([300, 224, 200, 100], '224 x 224 pixels, patches of 16'),  # half
        ([300, 150, 150, 150], '112 x 112 pixels, patches of 8'),
        ([64, 64, 64, 300], '64 x 64 pixels, patches of 8'),
    ],
)
def test_image_size(sides, what):
    assert decided(of(10**6, sides))['image size'].what == what


@pytest.mark.parametrize(
    ('count', 'start', 'length'),
    [
        (20_000, 'from weights', '100 epochs'),
        (300_000, 'from random', '427 epochs, 62,500 steps of 2048'),
        (1_281_167, 'from random', '100 epochs, 62,500 steps of 2048'),
        (10_000_000, 'from random', '38 epochs, 187,500 steps of 2048'),
    ],
)
def test_start_and_length(count, start, length):
    found = decided(of(count, [500]))
    assert found['start'].what.startswith(start) and found['length'].what == length
    assert found['student'].what == 'vit-base'
    assert f'--epochs {length.split()[0]}' in choose(of(count, [500])).command


def test_the_command_survives_a_shell():
    command = choose(replace(of(10**6, [500]), options=dict(data_root='my photos'))).command
    assert shlex.split(command)[2:4] == ['--data', 'my photos']
    shards = replace(of(10**6, [500]), kind='ImageTextShards', options=dict(data_root='cc/{000..009}.tar'))
    assert "--data 'cc/{000..009}.tar'" in choose(shards).command


def test_small_images():
    advice = choose(of(32_000, [64]))
    assert [made.about for made in advice.choices] == ['image size', 'student', 'length', 'batch']
    assert '--student vit-tiny --epochs 4 ' in advice.command


def test_few_images_are_a_smaller_batch():
    assert decided(of(500, [500]))['batch'].what == '500 in total'


def test_those_that_cannot_be_read_do_not_count():
    survey = of(200_000, [500])
    survey.looked_at.append(Photograph('a.jpg', 'broken'))
    assert decided(survey)['start'].what.startswith('from weights')  # 100,000


def test_every_rule_has_a_source_that_the_docs_name():
    text = (ROOT / 'docs/choosing.md').read_text()
    surveys = [of(count, [side]) for count in (500, 200_000, 1_281_167, 10**7) for side in (64, 150, 500)]
    sources = {made.source for survey in surveys for made in choose(survey).choices}
    for name in ('PAPER', 'SCALING', 'SMALL', 'GO_ON', 'UNSCALED', 'PATCHES'):
        source = getattr(choice, name)
        assert any(source in used for used in sources), name
        assert source.partition('arXiv:')[2].rstrip(')') in text, name
    assert all('arXiv' in source or 'docs/miniature.md' in source for source in sources)


def test_fewer_images_than_a_batch_are_a_step_an_epoch():
    assert '--epochs 2000 ' in choose(of(10, [64])).command
