"""The house rules that no linter holds, held by reading the sources."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FUNCTION_LINES_MAX = 60
MODULE_LINES_MAX = 400
TEST_MODULE_LINES_MAX = 600
# What is read, as opposed to generated, installed or left behind by tools.
FOLDERS = (".ci", "bench", "deploy", "docs", "examples", "proto", "requirements", "src", "tests", "tools")
TEXT_SUFFIXES = {".md", ".proto", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}

SUPPRESSION = re.compile(r"#\s*(noqa|type:\s*ignore)")
EXPLAINED = re.compile(
    r"#\s*(noqa:\s*[A-Z]+[0-9]+(,\s*[A-Z]+[0-9]+)*|type:\s*ignore\[[a-z-]+(,\s*[a-z-]+)*\])\s+(#|--)?\s*\w"
)
# Each is put together here, so that this file does not hold what it looks for.
MACHINE_PATH = re.compile(
    "(?<![\\w.])/(?:" + "|".join(("root", "home", "work", "Users", "opt/" + "pypi", "opt/" + "wheels")) + ")/"
)
INDEX = re.compile(
    "|".join(("pypi" + r"\.org", "files" + r"\.pythonhosted", "--" + "(extra-)?index-url", "--" + "find-links"))
)
TO_DO = re.compile(r"\b(" + "TO" + "DO|FIX" + "ME|XX" + r"X)\b")


def texts() -> Iterator[Path]:
    """Yield every text file that people write."""
    top = [path for path in ROOT.iterdir() if path.is_file()]
    deep = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    for path in sorted([*top, *deep]):
        written = path.suffix in TEXT_SUFFIXES or path.name in {"Makefile", "Dockerfile", "run"}
        if written and not {"gen", "node_modules", "__pycache__"} & set(path.parts):
            yield path


def modules() -> list[Path]:
    """Return every Python file that people write."""
    return [path for path in texts() if path.suffix == ".py"]


def name_of(path: Path) -> str:
    """Name a file from the checkout's root."""
    return str(path.relative_to(ROOT))


def lines_matching(pattern: re.Pattern[str], path: Path) -> list[str]:
    """Return where ``pattern`` occurs in ``path``."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [f"{name_of(path)}:{number}: {line.strip()}" for number, line in enumerate(lines, 1) if pattern.search(line)]


def comments(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the comments of a module with their line numbers."""
    with path.open("rb") as source:
        for token in tokenize.tokenize(source.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


def long_functions(path: Path) -> Iterator[str]:
    """Yield the functions that are too long, decorators and docstrings counted."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - min(item.lineno for item in (node, *node.decorator_list)) + 1
            if length > FUNCTION_LINES_MAX:
                yield f"{name_of(path)}:{node.lineno}: {node.name} has {length} lines"


def module_lines_max(path: Path) -> int:
    """Return how long a module may be; tests are lists of cases and may be longer."""
    return TEST_MODULE_LINES_MAX if name_of(path).startswith("tests") else MODULE_LINES_MAX


def test_functions_fit_on_a_screen() -> None:
    """A function has at most 60 lines, so that it is read at once."""
    assert [found for path in modules() for found in long_functions(path)] == []


def test_modules_are_about_one_thing() -> None:
    """A module has at most 400 lines (a test module 600): what is longer is about two things."""
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}
    too_long = {name_of(path): length for path, length in lengths.items() if length > module_lines_max(path)}
    assert too_long == {}


def test_modules_say_what_they_are_for() -> None:
    """Every module opens with a docstring."""
    silent = [path for path in modules() if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert [name_of(path) for path in silent] == []


def test_suppressions_are_specific_and_explained() -> None:
    """Whoever switches a rule off for a line says which rule and why."""
    unexplained = [
        f"{name_of(path)}:{number}: {comment}"
        for path in modules()
        for number, comment in comments(path)
        if SUPPRESSION.search(comment) and not EXPLAINED.search(comment)
    ]
    assert unexplained == []


@pytest.mark.parametrize(
    "pattern",
    (
        pytest.param(MACHINE_PATH, id="paths of one machine"),
        pytest.param(INDEX, id="addresses of package indexes"),
        pytest.param(TO_DO, id="promises to come back"),
    ),
)
def test_no_file_holds(pattern: re.Pattern[str]) -> None:
    """A checkout works on any machine and with any index, and what is left to do is an issue, not a comment."""
    assert [found for path in texts() for found in lines_matching(pattern, path)] == []


def test_requirements_are_pinned_by_hash() -> None:
    """Whatever is installed is exactly what was tested."""
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        entries = path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
        assert entries
        assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
