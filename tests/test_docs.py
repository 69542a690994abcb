"""The docs: every command on every page exists as it stands, and the site builds without a warning or the network."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from test_house import modules

from covr_bench.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
REFERENCE, BLOCK = ROOT / "results" / "reference", 4096  # bytes, as most file systems have it
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = "commands.md"
LEFT_OUT = ("...", "[")  # a command line that stands for many


def command_lines(page: Path) -> list[str]:
    """Those of its code blocks, continued lines joined, comments cut off."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    blocks += re.findall(r"^(?: {4}[^\n]*\n)+", text, re.MULTILINE)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    commands = [line for line in lines if line.startswith("covr-bench ")]
    return [line for line in commands if not any(mark in line for mark in LEFT_OUT)]


def cases() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        if page.name != GENERATED:
            yield from ((str(page.relative_to(ROOT)), line) for line in dict.fromkeys(command_lines(page)))


@cache
def command() -> Any:
    return typer.main.get_command(app)


def parse(arguments: list[str]) -> None:
    """What the command line would do before it does anything. Raises click's own errors."""
    at, name, parent = command(), "covr-bench", None
    while True:
        context = at.make_context(name, list(arguments), parent=parent)
        if not hasattr(at, "commands"):
            return
        name, at, arguments = at.resolve_command(context, context._protected_args + context.args)
        parent = context


def test_a_command_that_does_not_exist_is_noticed() -> None:
    for wrong in (["rum"], ["run", "--bugdet", "smoke"], ["carla", "serve", "--map"]):
        with pytest.raises(Exception, match=r"No such|requires an argument"):
            parse(wrong)


@pytest.mark.parametrize(("page", "line"), list(cases()))
def test_a_command_of_the_docs_exists(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    cut = next((i for i, word in enumerate(words) if word in ("|", ">", ">>", "&&", ";", "||", "&")), len(words))
    if not {"-h", "--help", "--version", "--install-completion"} & set(words):
        parse(words[:cut])


def test_an_extra_that_a_page_or_an_error_names_is_declared() -> None:
    section = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project.optional-dependencies]\n")[1]
    declared = set(re.findall(r"^(\w+) = \[", section.split("\n[")[0], re.MULTILINE))
    files = [*PAGES, ROOT / "tox.ini", *modules().values()]
    named = {extra for file in files for extra in re.findall(r"covr-bench\[(\w+)", file.read_text(encoding="utf-8"))}
    assert named <= declared
    assert {"ray", "hub", "tensorboard"} <= named


def test_the_site_builds_without_a_warning_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="needs covr-bench[docs]")
    site = tmp_path / "site"
    tables = ROOT / "docs" / "results" / "tables.md"
    before = tables.read_text(encoding="utf-8")
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(tmp_path / "cache")]
    done = subprocess.run([*build, str(ROOT / "docs"), str(site)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert tables.read_text(encoding="utf-8") == before, "results/reference has changed since; the build wrote it anew"
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    elsewhere = {
        address
        for page in pages
        for address in re.findall(r"""(?:src|href)=["'](https?://[^"']+|//[^"']+)""", page.read_text(encoding="utf-8"))
    }
    assert elsewhere == set()


def test_the_stored_results_stay_below_25_mb_on_a_disk() -> None:
    kept = [path for path in REFERENCE.rglob("*") if "cache" not in path.parts]
    blocks = sum(-(-path.stat().st_size // BLOCK) for path in kept)
    assert len(kept) > 1000
    assert blocks * BLOCK < 25_000_000


def test_the_readmes_picture_is_of_one_protocol(tmp_path: Path) -> None:
    """It fell over runs of another budget in the store, or would have averaged them with those it shows."""
    for run in ("dmc6@paper/cartpole_swingup/drqv2/0", "dmc6@short/cartpole_swingup/random/0"):
        shutil.copytree(REFERENCE / "runs" / run, tmp_path / "store" / "runs" / run)
    script = runpy.run_path(str(ROOT / "docs" / "reference_curve.py"))
    script["main"](str(tmp_path / "store"), tmp_path / "curve.svg")
    assert (tmp_path / "curve.svg").stat().st_size > 10_000
