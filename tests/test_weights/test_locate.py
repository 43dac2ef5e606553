import huggingface_hub
import pytest

from mvp_mm.weights import locate
from mvp_mm.weights.locate import local_path, weights_in


def test_a_folder_of_transformers(tmp_path):
    with pytest.raises(FileNotFoundError, match='a folder without model.safetensors or pytorch_model.bin'):
        local_path(tmp_path)
    (tmp_path / 'pytorch_model.bin').touch()
    assert local_path(str(tmp_path)) == tmp_path / 'pytorch_model.bin'


def test_the_hub(monkeypatch, tmp_path):
    def download(repository, file, revision, local_files_only):
        if revision == 'gone':
            raise OSError('no such revision\nat all')
        assert (repository, file, revision) == ('owner/name', 'folder/a.pth', 'v1')
        return str(tmp_path / 'a.pth')

    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', download)
    assert local_path('hf://owner/name/folder/a.pth@v1') == tmp_path / 'a.pth'
    with pytest.raises(FileNotFoundError, match=r'downloaded \(no such revision\). Without a network, copy'):
        local_path('hf://owner/name/a.pth@gone')
    with pytest.raises(FileNotFoundError, match='expected hf://owner/name/file'):
        local_path('hf://owner/name')


def test_an_address_goes_to_the_downloader(monkeypatch, tmp_path):
    monkeypatch.setitem(locate.DOWNLOADERS, 'https', lambda address: tmp_path / address.rpartition('/')[2])
    assert local_path('https://example.org/a.pth') == tmp_path / 'a.pth'


def test_weights_in_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='no weights in .* expected a.pt'):
        weights_in(tmp_path, ['a.pt'])
    for name in ('b.pth', 'a.pt'):
        (tmp_path / name).touch()
    assert weights_in(tmp_path, ['a.pt']) == tmp_path / 'a.pt'
    with pytest.raises(ValueError, match='several weight files .a.pt, b.pth.'):
        weights_in(tmp_path, ['c.pt'])
