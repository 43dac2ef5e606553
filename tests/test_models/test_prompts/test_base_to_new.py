import pytest

from mvp_mm.models.prompts.base_to_new import classes_of, harmonic_mean


def test_the_first_half_rounded_up_is_base():
    assert classes_of('base', 5) == range(3) and classes_of('new', 5) == range(3, 5)
    assert classes_of('base', 4) == range(2) and classes_of('new', 4) == range(2, 4)
    assert classes_of('all', 5) == range(5)
    with pytest.raises(ValueError, match="classes='old' is none of 'all', 'base', 'new'"):
        classes_of('old', 4)
    with pytest.raises(ValueError, match='needs two classes'):
        classes_of('new', 1)


def test_harmonic_mean_of_the_papers_averages():
    """CoCoOp's Table 1: H of the averages."""
    assert harmonic_mean(69.34, 74.22) == pytest.approx(71.70, abs=0.005)
    assert harmonic_mean(82.69, 63.22) == pytest.approx(71.66, abs=0.005)
    assert harmonic_mean(80.47, 71.69) == pytest.approx(75.83, abs=0.005)
    assert harmonic_mean(0, 50) == 0
