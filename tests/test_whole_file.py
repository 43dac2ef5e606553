"""Files that get their name when they are whole."""

import errno
import os

import pytest

from mvp_mm.whole_file import whole_file


def test_the_name_comes_last(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_text('old')
    with whole_file(path, 'free some space') as temporary:
        temporary.write_text('new')
        assert path.read_text() == 'old' and temporary.parent == tmp_path
    assert path.read_text() == 'new' and os.listdir(tmp_path) == ['a.txt']


@pytest.mark.parametrize('existed', [True, False])
def test_a_failure_leaves_what_was_there(tmp_path, existed):
    path = tmp_path / 'a.txt'
    if existed:
        path.write_text('old')
    with pytest.raises(KeyError), whole_file(path, 'free some space') as temporary:
        temporary.write_text('ne')
        raise KeyError
    assert [file.read_text() for file in tmp_path.iterdir()] == ['old'] * existed


def test_a_full_disk_is_named(tmp_path):
    expected = 'the disk is full while writing .*a.txt: free some space'
    with pytest.raises(OSError, match=expected) as caught, whole_file(tmp_path / 'a.txt', 'free some space'):
        raise OSError(errno.ENOSPC, 'No space left on device')
    assert caught.value.errno == errno.ENOSPC and not list(tmp_path.iterdir())


def test_other_errors_are_passed_on(tmp_path):
    with pytest.raises(PermissionError), whole_file(tmp_path / 'a.txt', 'free some space'):
        raise PermissionError(errno.EACCES, 'Permission denied')
