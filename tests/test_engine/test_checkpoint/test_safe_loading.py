"""Nothing that loads through MMEngine runs what a file says."""

import io
from pathlib import Path

import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint


class MakesAFolder:
    """Makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (self.path,)


def test_no_code_is_run(tmp_path):
    made = tmp_path / 'made'
    file = tmp_path / 'bad.pth'
    torch.save({'state_dict': {'weight': torch.ones(2)}, 'meta': {'bad': MakesAFolder(made)}}, file)
    for source in (str(file), file, io.BytesIO(file.read_bytes())):
        loaded = mmengine_checkpoint._safe_torch_load(source)
        assert loaded['state_dict']['weight'].tolist() == [1, 1] and loaded['meta'] == {}
    assert CheckpointLoader.load_checkpoint(str(file)).keys() == {'state_dict', 'meta'}
    assert not made.exists()
    torch.load(file, weights_only=False)
    assert made.is_dir()  # it would have been
