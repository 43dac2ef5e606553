"""A small web server that behaves as badly as it is told to."""

import http.server
import re
import runpy
import sys
import threading
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / 'tools'


class Server:
    """Files by path, and how they are served.

    Args:
        ranges: Whether parts of a file may be asked for. Default True.
        cuts: How many of the next answers end half-way. Default 0.
        down: Whether every answer is 503. Default False.
        down_after_cuts: Whether it is down once the cut answers have been given. Default False.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges, self.cuts, self.down, self.down_after_cuts = True, 0, False, False
        self.asked: list[tuple[str, str | None]] = []
        handler = type('Handler', (_Handler,), {'served': self})
        self._http = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
        self.address = f'http://127.0.0.1:{self._http.server_port}'
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs=dict(poll_interval=0.01))
        self._thread.start()
        self.is_up = True

    def vanish(self) -> None:
        """Nobody answers at the address any more."""
        if self.is_up:
            self._http.shutdown()
            self._http.server_close()
            self._thread.join()
            self.is_up = False


class _Handler(http.server.BaseHTTPRequestHandler):
    served: Server

    def log_message(self, *args) -> None:
        """Be quiet."""

    def do_GET(self) -> None:
        served = self.served
        served.asked.append((self.path, self.headers.get('Range')))
        content = served.files.get(self.path)
        if served.down or content is None:
            self.send_error(503 if served.down else 404)
            return
        start = 0
        wanted = re.fullmatch(r'bytes=(\d+)-', self.headers.get('Range') or '')
        if wanted and served.ranges:
            start = int(wanted[1])
            self.send_response(206)
            self.send_header('Content-Range', f'bytes {start}-{len(content) - 1}/{len(content)}')
        else:
            self.send_response(200)
        body = content[start:]
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if served.cuts:
            served.cuts -= 1
            served.down = served.down_after_cuts and not served.cuts
            body = body[: len(body) // 2]
        self.wfile.write(body)


@pytest.fixture
def server():
    server = Server()
    yield server
    server.vanish()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """A cache folder for each test, no custom zoo, no waiting, and the network allowed."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    for name in ('MVP_MM_ZOO', 'MVP_MM_OFFLINE', 'HF_HUB_OFFLINE'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr('huggingface_hub.file_download.time.sleep', lambda seconds: None)
    monkeypatch.setattr('huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE', 10_240)
    monkeypatch.setattr('mvp_mm.zoo.custom_zoos._added', [])
    monkeypatch.setattr('mvp_mm.zoo.custom_zoos._indices', {})
    return tmp_path / 'torch' / 'hub' / 'mvp_mm'


@pytest.fixture
def call_tool(monkeypatch, capsys):
    """``call_tool('download.py', 'a')``: a tool in this process; what it printed, then what it ended with."""

    def call(name, *arguments):
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        capsys.readouterr()
        ended = None
        try:
            runpy.run_path(str(TOOLS / name), run_name='__main__')
        except SystemExit as error:
            ended = error.code
        return capsys.readouterr().out, ended

    return call
