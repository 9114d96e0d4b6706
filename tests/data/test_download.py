"""Fetching from a real HTTP server with range requests, over broken connections."""

import hashlib
import http.server
import re
import threading

import pytest

from tests.data import formats
from zoo.data.datasets import DATASETS, DatasetSpec
from zoo.data.download import download
from zoo.data.prepare import Preparation, prepare
from zoo.data.sources import SourceFile
from zoo.data.splits import OFFICIAL
from zoo.errors import UserError

CONTENT = bytes(range(256)) * 8000  # 2 MB


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; breaks off after `server.break_after` bytes while `server.breaks` is positive."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests.append(self.headers.get("Range"))
        start = 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if wanted and self.server.ranges:
            start = int(wanted.group(1))
            if start >= len(CONTENT):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        elif self.path == "/missing":
            self.send_error(404)
            return
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        body = CONTENT[start:]
        if self.server.breaks > 0:
            self.server.breaks -= 1
            self.wfile.write(body[: self.server.break_after])
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests, server.ranges, server.breaks, server.break_after = [], True, 0, 700_000
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def spec(server, digest=None, path="file.bin") -> DatasetSpec:
    host, port = server.server_address
    digest = digest or "sha256:" + hashlib.sha256(CONTENT).hexdigest()
    file = SourceFile("file.bin", digest, len(CONTENT), f"http://{host}:{port}/{path}")
    return DatasetSpec("test", "folder", None, {}, {"official": OFFICIAL}, "none", "here", (file,))


def test_fetches_and_checks(server, tmp_path):
    reports = []
    download(spec(server), tmp_path / "d", report=lambda *report: reports.append(report))
    assert (tmp_path / "d" / "file.bin").read_bytes() == CONTENT
    assert reports[-1][1:] == (len(CONTENT), len(CONTENT))
    download(spec(server), tmp_path / "d")
    assert len(server.requests) == 1  # what is there is not fetched again


def test_continues_where_the_connection_broke(server, tmp_path):
    server.breaks = 2
    for _ in range(2):
        with pytest.raises(UserError, match="run again to continue"):
            download(spec(server), tmp_path)
        assert not (tmp_path / "file.bin").exists()
    download(spec(server), tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=700000-", "bytes=1400000-"]


def test_starts_again_where_the_server_knows_no_ranges(server, tmp_path):
    server.breaks, server.ranges = 1, False
    with pytest.raises(UserError, match="run again"):
        download(spec(server), tmp_path)
    download(spec(server), tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_part_that_is_whole_already_is_accepted(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    download(spec(server), tmp_path)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_wrong_content_is_removed_and_named(server, tmp_path):
    with pytest.raises(UserError, match="expected 00"):
        download(spec(server, "md5:00"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_errors_of_the_server_and_of_the_connection_are_one_line(server, tmp_path):
    with pytest.raises(UserError, match="404"):
        download(spec(server, path="missing"), tmp_path)
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match="cannot fetch"):
        download(spec(server), tmp_path)


def test_sets_without_open_host_say_where_to_get_them(tmp_path):
    with pytest.raises(UserError, match="account"):
        download(DATASETS["imagenet256"], tmp_path)


def test_downloaded_folders_can_be_prepared(tmp_path):
    formats.write_mnist(tmp_path)
    (tmp_path / "left.part").write_bytes(b"x")
    prepare(Preparation("mnist", tmp_path, tmp_path / "m.h5", verify=False))
