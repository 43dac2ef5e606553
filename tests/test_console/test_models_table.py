import pytest

from mvp_mm.console.models_table import cells, print_models
from mvp_mm.zoo import find_entry


def test_models(capsys):
    print_models('mvp_vitb16_in1k')
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if 'Pre-training' in line]
    for text in ('Pre-training', '85.7 M', '17.6 G', '84.4, 75.4, 52.4', 'not measured'):
        assert text in line
    assert '\npaper: ADE20K mIoU with UperNet: 52.4\n' in printed
    print_models('mvp_vitb16*')
    assert 'ADE20K mIoU' not in capsys.readouterr().out
    assert cells(find_entry('teachers_clip_vittiny_scenes'))[-2:] == ('51.2, 94.1', 'mvp_mm')
    with pytest.raises(ValueError, match='no model has a name like'):
        print_models('zzz*')
    with pytest.raises(ValueError, match=r'did you mean mvp_vitb16_in1k\b'):
        print_models('mvp_vitb16_in1')
