import contextlib
import http.server
import re
import threading

import pytest


class Server:
    """Gives ``data`` at any path; cuts connections and answers errors as a test asks for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.ranges = True
        self.cuts: list[int] = []  # close the next connections after so many bytes
        self.statuses: list[int] = []  # answer the next requests with these
        self.asked: list[str | None] = []  # the requests' ranges

    def url(self, name: str = 'data.bin') -> str:
        return f'http://127.0.0.1:{self.port}/{name}'

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        self.asked.append(wanted := handler.headers.get('Range'))
        if self.statuses:
            handler.send_error(self.statuses.pop(0))
            return
        found = re.fullmatch(r'bytes=(\d+)-', wanted or '') if self.ranges else None
        start = int(found[1]) if found else 0
        body = self.data[start:]
        handler.send_response(200 if not start else 206 if body else 416)
        if start:
            place = f'{start}-{len(self.data) - 1}' if body else '*'
            handler.send_header('Content-Range', f'bytes {place}/{len(self.data)}')
        handler.send_header('Content-Length', str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: self.cuts.pop(0)] if self.cuts else body)


@contextlib.contextmanager
def running(data: bytes):
    server = Server(data)

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self):
            with contextlib.suppress(ConnectionError):  # of a client that has seen enough
                server.answer(self)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as listening:
        server.port = listening.server_address[1]
        threading.Thread(target=listening.serve_forever, kwargs=dict(poll_interval=0.01), daemon=True).start()
        yield server
        listening.shutdown()


@pytest.fixture
def serve(monkeypatch):
    """Starts servers; the client neither waits between attempts nor asks a proxy."""
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY', 'HF_HUB_OFFLINE'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr('huggingface_hub.file_download.time.sleep', lambda seconds: None)
    monkeypatch.setattr('huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE', 50_000)  # what it writes at once
    with contextlib.ExitStack() as stack:
        yield lambda data: stack.enter_context(running(data))


@pytest.fixture
def names():
    """Lists a folder; a missing one is empty."""
    return lambda folder: sorted(path.name for path in folder.iterdir()) if folder.exists() else []
