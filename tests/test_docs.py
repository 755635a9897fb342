"""The documentation says what the program does: nothing is missing, nothing is stale, and what can be run runs.

A block of shell under ``<!-- tested -->`` is run against a server of its page's own, made by ``keystead up``
in ``./data`` with its ``env`` sourced; under ``<!-- tested alone -->`` there is no server, and the page starts what it
needs. A block under ``<!-- prints -->`` is what the one before it must print, in order, ``…`` standing for anything.
Addresses on 127.0.0.1 get free ports; ``$DATABASE_URL`` is an empty PostgreSQL.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from keystead.config import Settings
from keystead.kernel.change import Action
from keystead.transport.contract import service_methods
from keystead.transport.errors import TABLE
from tests.services import free_port, wait_until
from tools import docs, docs_cli, docs_texts
from tools.docs_errors import start_errors
from tools.docs_markdown import anchor

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
SERVED = ("P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P12")
PAGE_TIMEOUT_S = 300  # what a busy machine may take; a quiet one takes seconds
START_TIMEOUT_S = 60

_BLOCK = re.compile(r"<!-- (tested|tested alone|prints) -->\n```\w*\n(.*?)```", re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_ADDRESS = re.compile(r"127\.0\.0\.1:(\d+)")
_MARK = "=== block {} ==="


@dataclass(frozen=True, slots=True)
class Page:
    """The blocks of one page, in order: what is run, and what it must print (empty when the page does not say)."""

    path: Path
    alone: bool
    blocks: tuple[tuple[str, str], ...]

    def script(self, ports: dict[str, int]) -> str:
        """Join the blocks into one script; what it started in the background ends with it."""
        text = "".join([f"echo '{_MARK.format(index)}'\n{run}" for index, (run, _) in enumerate(self.blocks)])
        moved = _ADDRESS.sub(lambda match: f"127.0.0.1:{ports.setdefault(match[1], free_port())}", text)
        return f"trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n{moved}"


def read_page(path: Path) -> Page:
    """Find the blocks of ``path`` that are run."""
    blocks: list[tuple[str, str]] = []
    kinds = set()
    for kind, text in _BLOCK.findall(path.read_text(encoding="utf-8")):
        if kind == "prints":
            blocks[-1] = (blocks[-1][0], text)
        else:
            blocks.append((text, ""))
            kinds.add(kind)
    assert len(kinds) <= 1, f"{path} mixes {kinds}"
    return Page(path, kinds == {"tested alone"}, tuple(blocks))


RUN = [page for page in map(read_page, sorted(DOCS.rglob("*.md"))) if page.blocks]


def headings(path: Path) -> set[str]:
    """Return the anchors of a page."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    return {anchor(line.lstrip("#").strip().replace("`", "")) for line in text.splitlines() if line.startswith("#")}


def broken_links(path: Path) -> list[str]:
    """Return the relative links of a page that lead nowhere."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    broken = []
    for link in _LINK.findall(text):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, fragment = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (fragment and target.suffix == ".md" and fragment not in headings(target)):
            broken.append(f"{path.relative_to(ROOT)}: {link}")
    return broken


def missing_lines(expected: str, printed: str) -> list[str]:
    """Return the lines of ``expected`` that ``printed`` lacks, in order; ``…`` stands for anything, spaces for some."""
    left = iter(printed.splitlines())
    return [line for line in expected.splitlines() if line.strip() and not any(_shows(line, found) for found in left)]


def _shows(line: str, found: str) -> bool:
    parts = [r"\s+".join(map(re.escape, part.split())) for part in line.split("…")]
    return re.search(r".*".join(parts), found) is not None


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """Lend the generated pages as they would be made now."""
    return docs.generate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Lend a folder that looks like the checkout to whoever types commands in it."""
    for name in (".venv", "tools", "proto", "src", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.fixture
def environment() -> dict[str, str]:
    """Lend an environment with our programs first on PATH and nobody's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KEYSTEAD_")}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NO_PROXY": "127.0.0.1"}


@pytest.fixture
def server(folder: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    """Run ``keystead up`` in ``./data``; lends the file to source."""
    program = str(Path(sys.executable).with_name("keystead"))
    command = [program, "up", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--json"]
    with (folder / "up.out").open("wb") as out, (folder / "up.err").open("wb") as err:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=err)
    settled = wait_until(
        lambda: process.poll() is not None or (folder / "up.out").read_bytes().endswith(b"\n"),
        timeout_s=START_TIMEOUT_S,
    )
    assert settled, (folder / "up.err").read_text(encoding="utf-8")
    assert process.poll() is None, (folder / "up.err").read_text(encoding="utf-8")
    assert json.loads((folder / "up.out").read_text(encoding="utf-8"))["http"].startswith("http://127.0.0.1:")
    yield folder / "data" / "env"
    process.terminate()
    process.wait(START_TIMEOUT_S)


def run_script(script: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Run ``script`` as strictly as bash can and return what it printed; nothing that it started outlives it."""
    process = subprocess.Popen(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    try:
        printed, _ = process.communicate(timeout=PAGE_TIMEOUT_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, f"exit {process.returncode}\n{printed}"
    return printed


def test_generated_pages_are_what_the_code_says_now(made: Mapping[str, str]) -> None:
    """The reference is never older than the program."""
    assert docs.stale_pages(made) == []
    assert {path.name for path in docs.REFERENCE.glob("*.md")} == set(made)


def test_every_setting_is_in_the_reference(made: Mapping[str, str]) -> None:
    """An operator finds every setting with its variable and what it does."""
    lacking = [name for name in Settings.model_fields if f"| `{name}` |" not in made["settings.md"]]
    assert lacking == []
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_error_code_has_a_section_that_says_what_to_do(made: Mapping[str, str]) -> None:
    """Whoever meets a code finds out what to do about it, and no advice is left for codes that are gone."""
    codes = {*TABLE, *(kind.code for kind in start_errors())}
    assert [code for code in sorted(codes) if f"\n### {code}\n" not in made["errors.md"]] == []
    assert set(docs_texts.ADVICE) == codes


def test_every_command_has_its_help_in_the_reference(made: Mapping[str, str]) -> None:
    """Every command can be found, and says what it is for."""
    found = dict(docs_cli.commands())
    assert [path for path in found if f"\n## {path}\n" not in made["cli.md"]] == []
    assert [path for path, command in found.items() if not command.help] == []


def test_every_option_of_every_command_is_explained() -> None:
    """No flag is without a sentence."""
    silent = [
        f"{path} {option.opts[0]}"
        for path, command in docs_cli.commands()
        for option in command.params
        if option.param_type_name == "option" and not getattr(option, "help", None)
    ]
    assert silent == []


def test_every_event_is_in_the_catalogue(made: Mapping[str, str]) -> None:
    """An auditor finds every action that can be recorded, and the methods named beside it exist."""
    assert [action for action in Action if f"| `{action}` |" not in made["events.md"]] == []
    methods = {method.name for method in service_methods()}
    named = {name for _, _, made_by in docs_texts.EVENTS.values() for name in made_by if " " not in name}
    assert named - methods == set()


def test_every_method_is_in_the_reference_with_who_may_call_it(made: Mapping[str, str]) -> None:
    """A caller finds every method of the contract, and the scope that it needs."""
    for method in service_methods():
        section = made["api.md"].partition(f"\n### {method.name}\n")[2].partition("\n### ")[0]
        assert ("`" if method.client_streaming else "`POST ") + f"{method.path}`" in section
        assert (f"`{method.access.scope}`" if method.access.scope else "operator key") in section


def test_rights_that_services_ask_for_by_themselves_are_documented() -> None:
    """A scope that is demanded past the method's own stands in the reference."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "src" / "keystead" / "keys").glob("*.py")]
    demanded = {scope for text in sources for scope in re.findall(r'\.demand\("([a-z:]+)"\)', text)}
    assert demanded
    assert [scope for scope in demanded if f"`{scope}`" not in " ".join(docs_texts.ALSO_NEEDED.values())] == []


def test_relative_links_lead_somewhere() -> None:
    """Nobody who follows a link in README, ARCHITECTURE or docs ends nowhere, sections included."""
    assert [link for path in PAGES for link in broken_links(path)] == []


def test_every_page_can_be_found_from_the_index() -> None:
    """docs/README.md names every page there is."""
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    pages = [path.relative_to(DOCS) for path in DOCS.rglob("*.md") if path != DOCS / "README.md"]
    assert [str(page) for page in sorted(pages) if f"({page})" not in index] == []


def test_files_that_pages_name_exist() -> None:
    """The tests and modules that explanations and decisions point at are there under that name."""
    named = re.compile(r"`((?:tests|src|tools|deploy|bench)/[\w./-]+\.\w+)`")
    found = {name for path in PAGES for name in named.findall(path.read_text(encoding="utf-8"))}
    assert [name for name in sorted(found) if not (ROOT / name).exists()] == []


def test_promises_are_held_by_tests_that_name_them() -> None:
    """Whoever doubts a promise finds tests that say in their own words that they hold it."""
    text = (DOCS / "explanation" / "promises.md").read_text(encoding="utf-8")
    sections = {section.partition(":")[0]: section for section in text.split("\n## ") if re.match(r"P\d+:", section)}
    assert sorted(sections) == sorted(SERVED)
    silent = [
        f"{promise}: {name}"
        for promise, section in sections.items()
        for name in re.findall(r"`(tests/[\w./-]+)`", section) or ["none"]
        if not re.search(rf"\b{promise}\b", _text(ROOT / name))
    ]
    assert silent == []


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


@pytest.mark.parametrize("page", [page for page in RUN if not page.alone], ids=lambda page: page.path.stem)
def test_what_a_page_shows_works_on_a_fresh_server(
    page: Page, folder: Path, environment: Mapping[str, str], server: Path
) -> None:
    """Commands in the tutorial and the how-to pages do what the pages say, on a server just made by `keystead up`."""
    script = f"source {shlex.quote(str(server))}\n{page.script({})}"
    check_printed(page, run_script(script, folder, environment))


@pytest.mark.parametrize("page", [page for page in RUN if page.alone], ids=lambda page: page.path.stem)
def test_what_a_page_sets_up_works(
    page: Page, folder: Path, environment: dict[str, str], request: pytest.FixtureRequest
) -> None:
    """Pages about running the service start it themselves, as they say, and it runs."""
    if "DATABASE_URL" in page.script({}):
        environment["DATABASE_URL"] = request.getfixturevalue("postgres_url")
    check_printed(page, run_script(page.script({}), folder, environment))


def check_printed(page: Page, printed: str) -> None:
    """Fail unless each block printed what its page says."""
    outputs = re.split(_MARK.format(r"\d+") + "\n", printed)[1:]
    assert len(outputs) == len(page.blocks)
    for (_, expected), output in zip(page.blocks, outputs, strict=True):
        assert missing_lines(expected, output) == [], output


def test_the_runner_notices_what_a_page_does_not_print() -> None:
    """A page that promises something else than what happens fails: order and words count, `…` stands for anything."""
    assert missing_lines("one … three\nfour", "zero\none two three\nfour five") == []
    assert missing_lines("four\none", "one\nfour") == ["one"]
    assert missing_lines("two", "one") == ["two"]
