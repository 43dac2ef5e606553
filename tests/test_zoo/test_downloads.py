"""Downloads from a server that breaks off, lies, vanishes, and has parts of files or not."""

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
import torch
from safetensors.torch import save

import mvp_mm
from mvp_mm.datasets.prepare import ChecksumError, DownloadError
from mvp_mm.weights.locate import local_path
from mvp_mm.zoo.downloads import cache_dir, cached_path, fetch

CONTENT = bytes(range(256)) * 400
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def url(server):
    server.files['/a.safetensors'] = CONTENT
    return f'{server.address}/a.safetensors'


def inside(folder):
    return sorted(path.name for path in folder.rglob('*') if path.is_file() and path.suffix != '.lock')


def test_into_the_cache_and_once(server, url, own_cache, tmp_path, monkeypatch):
    before = set(tmp_path.iterdir())
    path = fetch(url, DIGEST, progress=False)
    assert path.read_bytes() == CONTENT and own_cache in path.parents and cache_dir() == own_cache
    assert fetch(url, DIGEST) == path and len(server.asked) == 1
    assert set(tmp_path.iterdir()) - before == {tmp_path / 'torch'}  # nothing elsewhere
    assert inside(own_cache) == ['a.safetensors']
    monkeypatch.delenv('TORCH_HOME')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    assert cache_dir() == tmp_path / 'xdg/torch/hub/mvp_mm'


def test_goes_on_where_it_stopped(server, url):
    server.cuts = 1
    assert fetch(url, DIGEST, progress=False).read_bytes() == CONTENT
    assert server.asked == [('/a.safetensors', None), ('/a.safetensors', f'bytes={len(CONTENT) // 2}-')]


def test_goes_on_at_the_next_call(server, url, own_cache):
    server.cuts, server.down_after_cuts = 1, True
    with pytest.raises(DownloadError, match=f'{len(CONTENT) // 2:,} bytes are kept'):
        fetch(url, DIGEST, progress=False)
    server.down, server.asked = False, []
    assert fetch(url, DIGEST, progress=False).read_bytes() == CONTENT
    assert server.asked == [('/a.safetensors', f'bytes={len(CONTENT) // 2}-')]
    assert inside(own_cache) == ['a.safetensors']


def test_without_ranges(server, url):
    server.ranges, server.cuts = False, 1
    assert fetch(url, DIGEST, progress=False).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, f'bytes={len(CONTENT) // 2}-']


def test_another_file_than_promised(server, url, own_cache):
    server.files['/a.safetensors'] = CONTENT[::-1]
    with pytest.raises(ChecksumError, match=f'expected {DIGEST}'):
        fetch(url, DIGEST, progress=False)
    assert inside(own_cache) == []


def test_the_hash_in_the_name(server, own_cache):
    server.files[f'/a-{DIGEST[:8]}.pth'] = CONTENT
    server.files['/a-01234567.pth'] = CONTENT
    assert fetch(f'{server.address}/a-{DIGEST[:8]}.pth', progress=False).read_bytes() == CONTENT
    with pytest.raises(ChecksumError, match='its name says 01234567'):
        fetch(f'{server.address}/a-01234567.pth', progress=False)
    assert inside(own_cache) == [f'a-{DIGEST[:8]}.pth']


def test_a_damaged_file_in_the_cache(server, url):
    path = fetch(url, DIGEST, progress=False)
    path.write_bytes(CONTENT[:-1])
    assert fetch(url, DIGEST, progress=False).read_bytes() == CONTENT and len(server.asked) == 2


def test_a_mirror(server, url):
    gone = f'{server.address}/gone.safetensors'
    assert fetch([gone, url], DIGEST, progress=False).read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ['/gone.safetensors', '/a.safetensors']


def test_vanished(server, url, monkeypatch):
    path = fetch(url, DIGEST, progress=False)
    server.vanish()
    assert fetch(url, DIGEST) == path
    with pytest.raises(DownloadError, match='Connection refused'):
        fetch(f'{server.address}/b.pth', progress=False)
    with pytest.raises(FileNotFoundError, match='copy the file to this machine and give its path'):
        local_path(f'{server.address}/b.pth')


@pytest.mark.parametrize('variable', ['MVP_MM_OFFLINE', 'HF_HUB_OFFLINE'])
def test_offline(server, url, monkeypatch, variable):
    monkeypatch.setenv(variable, 'true')
    with pytest.raises(FileNotFoundError) as error:
        fetch(url, DIGEST)
    assert f'{variable}=true forbids the network' in str(error.value)
    assert str(cached_path(url, DIGEST)) in str(error.value) and not server.asked
    cached_path(url, DIGEST).parent.mkdir(parents=True)
    cached_path(url, DIGEST).write_bytes(CONTENT)  # as the message says
    assert fetch(url, DIGEST).read_bytes() == CONTENT


def test_two_at_once(server, url):
    """One downloads; the other waits, and then finds the file."""
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: fetch(url, DIGEST, progress=False), range(2))
    assert first == second and len(server.asked) == 1


def test_weights_at_an_address(server):
    """On demand, by the name of a model and the address of its weights."""
    model = mvp_mm.get_model('finetune_vittiny_debug')
    server.files['/w.safetensors'] = save(model.state_dict())
    again = mvp_mm.get_model('finetune_vittiny_debug', pretrained=f'{server.address}/w.safetensors')
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_a_strange_name_stays_in_the_cache(server, own_cache):
    for path in ('/%2e%2e%2f%2e%2e%2fevil.pth', '/', '/..'):
        server.files[path] = CONTENT
        assert fetch(server.address + path, progress=False).parent.parent == own_cache


@pytest.fixture
def written(monkeypatch, tmp_path):
    """Files that this process opens for writing, makes or renames, by Python's own audit."""
    (tmp_path / 'home').mkdir()
    for name in ('HOME', 'TMPDIR'):
        monkeypatch.setenv(name, str(tmp_path / 'home'))
    found: list[str] | None = []

    def watch(event, args):  # stays for the life of the process: it has to be told when to stop
        if found is None:
            return
        if event == 'open' and isinstance(args[0], str | bytes):
            mode, flags = args[1] or '', args[2] or 0
            if set(mode) & set('wax+') or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                found.append(os.fsdecode(args[0]))
        elif event in ('os.mkdir', 'os.rename', 'os.link', 'os.symlink'):
            found.append(os.fsdecode(args[0 if event == 'os.mkdir' else 1]))

    sys.addaudithook(watch)
    yield found
    found = None


@pytest.mark.parametrize('fault', ['none', 'cut off', 'no ranges', 'corrupted'])
def test_nothing_is_written_outside_of_the_cache(fault, server, url, own_cache, written):
    """Whatever happens on the way."""
    server.cuts = int(fault in ('cut off', 'no ranges'))
    server.ranges = fault != 'no ranges'
    if fault == 'corrupted':
        server.files['/a.safetensors'] = CONTENT[::-1]
    with pytest.raises(ChecksumError) if fault == 'corrupted' else nullcontext():
        fetch(url, DIGEST, progress=False)
    files = [os.path.realpath(path) for path in written]
    assert files and not [path for path in files if not path.startswith((str(own_cache.parents[1]), '/dev/'))]
    assert inside(own_cache) == ([] if fault == 'corrupted' else ['a.safetensors'])


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A file in huggingface_hub's cache, as it keeps one: its path, and that of what it links to."""
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'hub'))
    repository = tmp_path / 'hub/models--lab--clip'
    blob, path = repository / 'blobs/0', repository / f'snapshots/{"a" * 40}/weights/a.safetensors'
    for folder in (blob.parent, path.parent, repository / 'refs'):
        folder.mkdir(parents=True)
    (repository / 'refs/main').write_text('a' * 40)
    blob.write_bytes(CONTENT)
    path.symlink_to(blob)
    return path, blob


def test_the_hub(hub, monkeypatch):
    path, blob = hub
    address = 'hf://lab/clip/weights/a.safetensors'
    monkeypatch.setenv('MVP_MM_OFFLINE', '1')
    assert fetch(address, DIGEST) == fetch(f'{address}@{"a" * 40}') == path
    with pytest.raises(FileNotFoundError, match='b.safetensors could not be downloaded .*copy the file'):
        fetch('hf://lab/clip/b.safetensors')
    blob.write_bytes(CONTENT[1:])
    with pytest.raises(ChecksumError, match=f'damaged: its sha256 is .*, expected {DIGEST}. It was deleted'):
        fetch(address, DIGEST)
    assert not blob.exists() and not path.is_symlink()
    asked = []

    def download(repository, file, revision=None, local_files_only=False):
        asked.append((repository, file, revision, local_files_only))
        blob.write_bytes(CONTENT)
        return str(blob)

    monkeypatch.delenv('MVP_MM_OFFLINE')
    monkeypatch.setattr('huggingface_hub.hf_hub_download', download)
    assert fetch(f'{address}@v1', DIGEST) == blob
    assert asked == [('lab/clip', 'weights/a.safetensors', 'v1', False)]


def test_a_mirror_of_the_hub(hub, server, url, monkeypatch):
    """It is asked when the hub has no such file; the network is there, the hub's is not."""

    def unreachable(*args, **options):
        raise FileNotFoundError('network is unreachable')

    monkeypatch.setattr('huggingface_hub.hf_hub_download', unreachable)
    assert fetch(['hf://lab/gone/a.safetensors', url], DIGEST, progress=False).read_bytes() == CONTENT
    for places in ([f'{url}.gone', 'hf://lab/gone/a.safetensors', url], ['gone.safetensors', url]):
        assert fetch(places, DIGEST, progress=False).read_bytes() == CONTENT
    with pytest.raises(FileNotFoundError, match='hf://lab/gone/a.pth could not .*network is unreachable'):
        fetch('hf://lab/gone/a.pth')
    with pytest.raises(FileNotFoundError, match='names no file: expected hf://owner/name/file'):
        fetch('hf://lab/gone')


def test_a_local_file_needs_no_network(server, monkeypatch, tmp_path):
    """The path of a file comes before any address: nobody is asked."""
    monkeypatch.setenv('MVP_MM_OFFLINE', '1')
    model = mvp_mm.get_model('finetune_vittiny_debug')
    (tmp_path / 'w.safetensors').write_bytes(save(model.state_dict()))
    again = mvp_mm.get_model('finetune_vittiny_debug', pretrained=str(tmp_path / 'w.safetensors'))
    assert torch.equal(again.head.fc.weight, model.head.fc.weight)
    with pytest.raises(ValueError, match='there are no published weights .*Give pretrained=FILE_OR_URL'):
        mvp_mm.get_model('mvp_vitb16_in1k', pretrained=True)
    assert not server.asked
