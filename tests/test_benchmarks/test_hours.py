"""Predicted hours, against arithmetic by hand."""

import dataclasses

import pytest

from benchmarks.hours import Assumptions, predicted_hours

GIVEN = Assumptions(step_rate=1000, loader_rate=200, cores=10, overlap=0.5)


def test_one_gpu_has_nothing_to_exchange():
    assert predicted_hours(1, GIVEN) == (pytest.approx(300 * 1_280_000 / 1000 / 3600), 'GPUs')


def test_loaders_can_be_the_slower_ones():
    slow = dataclasses.replace(GIVEN, cores=2)
    assert predicted_hours(1, slow) == (pytest.approx(300 * 1_280_000 / 400 / 3600), 'loaders')


def test_eight_gpus_of_a_machine_and_two_machines():
    computing = 2048 / 8 / 1000
    exchange = 0.5 * 2 * 7 / 8 * 86e6 * 4 / 200e9
    assert predicted_hours(8, GIVEN)[0] == pytest.approx(187_500 * (computing + exchange) / 3600)
    exchange = 0.5 * 2 * 15 / 16 * 86e6 * 4 / 20e9
    assert predicted_hours(16, GIVEN)[0] == pytest.approx(187_500 * (computing / 2 + exchange) / 3600)
    half = dataclasses.replace(GIVEN, bytes_each=2)
    assert predicted_hours(16, half)[0] < predicted_hours(16, GIVEN)[0]


def test_impossible_numbers():
    with pytest.raises(ValueError, match='must be positive'):
        predicted_hours(0, GIVEN)
