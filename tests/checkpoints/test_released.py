"""Released checkpoints from a real server: fetched, resumed, checked, imported, found by name; wrong files refused."""

import http.server
import json
import re
import threading
import zipfile
from pathlib import Path

import pytest

from zoo.checkpoints import load
from zoo.checkpoints.convert import SOURCES
from zoo.checkpoints.released import Released, as_markdown, find, pull, released
from zoo.cli.main import main
from zoo.errors import UserError
from zoo.recipes.configuration import read_config

DATA = Path(__file__).parents[1] / "vectors" / "data"
HOST = "https://weights.example.org"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files` with ranges; breaks off in the middle while `server.breaks` is positive."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        content = self.server.files.get(self.path.partition("?")[0])
        if content is None:
            self.send_error(404)
            return
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(wanted.group(1)) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(content) - start + self.server.lie))
        self.end_headers()
        body = content[start:]
        if self.server.breaks > 0:
            self.server.breaks -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.breaks, server.lie = {}, 0, 0
        monkeypatch.setenv("ZOO_MIRROR", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def publish(server, source: str, folder: Path) -> Released:
    """Put the golden checkpoint of a source on the server, in the form its owners chose."""
    options, suffix, host = {}, "", "/weights.example.org"
    if source == "vdvae":
        [file] = (DATA / "vdvae").glob("*-ema.th")
        options["config"] = str(next((DATA / "vdvae").glob("*.json")))
    elif source == "efficient-vdvae":
        file = folder / "mini_checkpoints.zip"
        with zipfile.ZipFile(file, "w") as archive:
            for part in (DATA / "efficient_vdvae").rglob("*mini*"):
                if part.is_file() and part.suffix not in (".npz", ".json"):
                    archive.write(part, part.relative_to(DATA / "efficient_vdvae"))
    elif source == "vqvae2":
        file = DATA / "vqvae2" / "config_b" / "vqvae.pt"
        options["config"] = str(file.with_name("config.json"))
    elif source == "ldm-autoencoder":
        file, suffix = folder / "kl.zip", ".ckpt"
        [weights] = (DATA / "ldm_autoencoder").glob("*.ckpt")
        with zipfile.ZipFile(file, "w") as archive:
            archive.write(weights, "model.ckpt")
    else:
        [file] = (DATA / "vdm").glob("*.flax")
        options["config"], suffix, host = str(file.with_suffix(".json")), ".flax", "/storage.googleapis.com/bucket"
        listing = {"items": [{"name": file.name, "bucket": "bucket", "size": str(file.stat().st_size)}]}
        server.files["/weights.example.org/o"] = json.dumps(listing).encode()
    server.files[f"{host}/{file.name}"] = file.read_bytes()
    url = f"{HOST}/o?prefix=x/" if source == "vdm" else f"{HOST}/{file.name}"
    return Released(f"{source}-test", source, [url], "MIT", suffix=suffix, options=options)


@pytest.mark.parametrize("source", ["vdvae", "efficient-vdvae", "vqvae2", "ldm-autoencoder", "vdm"])
def test_official_files_are_fetched_imported_and_found_by_name(source, server, tmp_path):
    if source == "ldm-autoencoder":
        weights = next((DATA / "ldm_autoencoder").glob("*.ckpt"))
        if "layout" in weights.stem:
            pytest.skip("the small copy holds a layout, no weights")
    entry = publish(server, source, tmp_path)
    reports = []
    path = pull(entry, lambda *report: reports.append(report))
    loaded = load(entry.name)
    assert loaded.path == path
    assert loaded.meta["released"] == entry.name
    assert loaded.meta["run"] == entry.name
    assert reports[-1][1] == reports[-1][2] > 0
    server.files.clear()
    assert pull(entry) == path  # what is there needs no network


def test_a_broken_connection_is_continued(server, tmp_path):
    entry = publish(server, "vdvae", tmp_path)
    server.breaks = 1
    with pytest.raises(UserError, match="run again to continue"):
        pull(entry)
    assert load(pull(entry).stem).digest == load(entry.name).digest


def test_a_promised_length_that_never_comes_is_one_line(server, tmp_path):
    entry = publish(server, "vdvae", tmp_path)
    server.lie = 1000
    with pytest.raises(UserError, match=r"connection broke after [\d,]+ of [\d,]+ bytes"):
        pull(entry)
    assert not list((tmp_path / "home").rglob("*.safetensors"))


def test_another_file_than_at_the_first_download_is_refused(server, tmp_path):
    entry = publish(server, "vdvae", tmp_path)
    path = pull(entry)
    path.unlink()
    [name] = server.files
    server.files[name] = server.files[name] + b"\0"
    with pytest.raises(UserError, match="at the first download it was"):
        pull(entry)


def test_a_listing_that_promises_another_size_is_refused(server, tmp_path):
    entry = publish(server, "vdm", tmp_path)
    listing = json.loads(server.files["/weights.example.org/o"])
    listing["items"][0]["size"] = "17"
    server.files["/weights.example.org/o"] = json.dumps(listing).encode()
    with pytest.raises(UserError, match="the listing says 17"):
        pull(entry)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<!DOCTYPE html><p>moved", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "git-lfs"),
        (b"", "empty"),
    ],
)
def test_what_dead_hosts_answer_is_named(content, what, server, tmp_path):
    entry = publish(server, "vdvae", tmp_path)
    [name] = server.files
    server.files[name] = content
    with pytest.raises(UserError, match=what):
        pull(entry)


def test_every_entry_names_an_importer_and_a_configuration():
    assert {entry.source for entry in released().values()} <= set(SOURCES)
    for entry in released().values():
        if entry.config:
            assert read_config(entry.config)["reproduces"]
    with pytest.raises(UserError, match=r"did you mean .vdvae-cifar10-seed"):
        find("vdvae-cifar10-seed")


def test_the_plan_of_a_cell_says_weights_data_and_published_number(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    assert main(["pull"]) == 0
    assert "vdm-cifar10" in capsys.readouterr().out
    assert main(["reproduce", "vdm-cifar10", "--plan"]) == 0
    plan = capsys.readouterr().out
    assert "zoo data prepare cifar10" in plan
    assert "2.6" in plan
    assert list(tmp_path.iterdir()) == []  # nothing was done


def test_the_page_shows_the_table():
    page = (Path(__file__).parents[2] / "docs" / "reproduce.md").read_text()
    between = page.partition("<!-- table released -->\n")[2].partition("<!-- end of table released -->")[0]
    assert between == as_markdown()
