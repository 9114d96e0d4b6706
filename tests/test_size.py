"""Files stay readable in one sitting: under 400 lines (a model's own 600), functions 40 without their docstring."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "zoo"
FILES = sorted(PACKAGE.rglob("*.py"))


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the signature's end to the last statement, the docstring not counted."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return 0 if not body else (body[-1].end_lineno or 0) - body[0].lineno + 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_file_and_its_functions_are_short(path: Path) -> None:
    text = path.read_text()
    own = path.name == "model.py" and path.parent.parent.name == "models"
    assert text.count("\n") < (600 if own else 400)
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert {f.name: body_lines(f) for f in functions if body_lines(f) > 40} == {}
