"""Old names keep working, and say the new one."""

import importlib
import sys

import pytest

import mvp_mm.export
import mvp_mm.models
import mvp_mm.weights
from mvp_mm.renamed import MODULES


@pytest.mark.parametrize('old', MODULES)
def test_modules(old):
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f'{old} is now {MODULES[old]}'):
        found = importlib.import_module(old)
    assert found is importlib.import_module(MODULES[old])


def test_names():
    with pytest.warns(DeprecationWarning, match='mvp_mm.models.CLIPTeacher is now CLIP'):
        assert mvp_mm.models.CLIPTeacher is mvp_mm.models.CLIP
    with pytest.warns(DeprecationWarning, match='DINOTeacher is now DINO'):
        assert mvp_mm.models.DINOTeacher is mvp_mm.models.DINO
    with pytest.warns(DeprecationWarning, match='Student is now ExportedStudent'):
        assert mvp_mm.export.Student is mvp_mm.export.ExportedStudent
    with pytest.raises(AttributeError, match="'mvp_mm.models' has no attribute 'NoSuchThing'"):
        mvp_mm.models.NoSuchThing  # noqa: B018


def test_what_old_imports_were_for():
    from mvp_mm.datasets.read_rgb import read_rgb
    from mvp_mm.engine.launch import OptionAction
    from mvp_mm.models.checkpoint_loading import load_pretrained

    assert load_pretrained is mvp_mm.weights.load
    assert callable(read_rgb) and issubclass(OptionAction, object)
