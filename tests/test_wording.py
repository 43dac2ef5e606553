import pytest

from mvp_mm.wording import counted, listed


@pytest.mark.parametrize(
    ('arguments', 'wanted'),
    [
        ((1, 'image'), '1 image'),
        ((0, 'image'), '0 images'),
        ((2000, 'image'), '2,000 images'),
        ((1, 'process', 'processes'), '1 process'),
        ((2, 'process', 'processes'), '2 processes'),
    ],
)
def test_counted(arguments, wanted):
    assert counted(*arguments) == wanted


def test_listed():
    assert listed([]) == '' and listed(['a']) == 'a' and listed(iter('abcde')) == 'a, b, c, d, e'
    assert listed('abcdefg') == 'a, b, c, d, e and 2 more'
    assert listed(map(str, range(2000)), 1) == '0 and 1,999 more'
    assert listed('abc', 2, '; ') == 'a; b; and 1 more'
