"""Tests of detection are skipped where mmdet, which is an extra, is not installed."""

from importlib.util import find_spec

import pytest

WITH_MMDET = find_spec('mmdet') is not None
needs_mmdet = pytest.mark.skipif(not WITH_MMDET, reason='mmdet is not installed: mvp_mm[detection]')


def as_parameters(configs):
    """Paths of configs as parameters of a test."""
    return [pytest.param(path, marks=needs_mmdet if 'detection/' in path else ()) for path in configs]
