"""What `mkdocs` adds to the pages of docs/: the API from docstrings, the board, and links to sources that lead there.

The markdown of docs/ stays readable in a repository, where `../zoo/likelihood/terms.py` is a file; on the site the same
link leads to that module's documentation.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("likelihood", "models", "codec", "data", "training", "checkpoints", "recipes", "benchmarks")
_ELSEWHERE = re.compile(r"\[([^\]]*)\]\((?:\.\./)+(?:zoo|scripts|tests|configs|examples)/[^)]*\)")
_SOURCE = re.compile(r"\]\((?:\.\./)+zoo/([\w/]+)\.py\)")


def modules(package: str) -> list[str]:
    """Dotted names of the public modules of a package, in the order of their paths."""
    files = sorted((ROOT / "zoo" / package).rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files if file.stem != "__init__"]
    return [name for name in names if not any(part.startswith("_") for part in name.split("."))]


def on_files(files: Files, config: Any) -> Files:
    """Add a page for each package and the board."""
    for package in PACKAGES:
        found = modules(package)
        text = f"# zoo.{package}\n\n" + "\n\n".join(f"::: {name}" for name in found) + "\n"
        if found:
            files.append(File.generated(config, f"api/{package}.md", content=text))
    files.append(File.generated(config, "board.html", content=board()))
    return files


def board() -> str:
    """The leaderboard of the records that ship."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "board.html"
        command = [sys.executable, "-m", "zoo", "bench", "--table", "all", "--output", str(page)]
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        return page.read_text(encoding="utf-8")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead links to sources to the module's documentation."""
    up = "../" * page.file.src_uri.count("/")

    def target(found: re.Match[str]) -> str:
        path = found[1]
        return f"]({up}api/{path.split('/')[0]}.md#zoo.{path.replace('/', '.')})"

    return _ELSEWHERE.sub(r"\1", _SOURCE.sub(target, markdown))  # other files of the repository are not on the site


class Examples(griffe.Extension):
    """The project writes `Example:` over one example; the parser of docstrings knows `Examples:` only."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the heading, so that the lines below it are shown as code."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE)
