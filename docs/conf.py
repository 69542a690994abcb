"""The site: `python -m sphinx docs docs/_build/html` builds it, without the network and without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

project, author, copyright = "covr-bench", "The covr-bench authors", "the covr-bench authors"
release = version = installed("covr-bench")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
default_role = "code"  # docstrings write names in single backticks
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = napoleon_attr_annotations = False
napoleon_use_ivar = True
html_theme = "pydata_sphinx_theme"
html_title = "covr-bench"
html_static_path = ["results/films"]
html_copy_source = html_show_sourcelink = False
TABLES = {
    "The paper's tables of driving, ours beside them": "--paper T1,T2,T5 --as COVR=covr-base=drq --as DPL=dpl-base=drq",
    "The paper's tables of DMControl, ours beside them": "--paper T3,T4 --as COVR=covr-base=drq",
    "The study with controls": "--paper effect",
    "Six tasks of DMControl": "--suite dmc6",
    "Driving, embedded backend": "--suite carla",
    "CarRacing": "--suite carracing",
    "Ablations, on catch": "--suite ablation",
}
html_theme_options = {
    "navbar_align": "left",
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}


def commands(app: Any) -> None:
    """Write the page of commands from the commands themselves."""
    import typer
    from typer.cli import get_docs_for_click

    from covr_bench.cli.app import app as ours

    command = typer.main.get_command(ours)
    context = command.context_class(command, info_name="covr-bench")
    text = get_docs_for_click(obj=command, ctx=context, name="covr-bench", title="Commands")
    _write(Path(app.srcdir) / "reference" / "commands.md", text)


def tables(app: Any) -> None:
    """Write the page of tables from the runs that we keep."""
    store = Path("results", "reference")
    text = "# Tables\n\nMade from `results/reference/` by the command above each.\n"
    for title, command in TABLES.items():
        command = f"covr-bench table {command} --out {store} --format md"
        done = subprocess.run(
            [sys.executable, "-m", *command.replace("covr-bench", "covr_bench", 1).split()],
            cwd=Path(app.srcdir).parent,
            check=True,
            capture_output=True,
            encoding="utf-8",
        )
        text += f"\n## {title}\n\n    {command}\n\n{done.stdout.strip()}\n"
    _write(Path(app.srcdir) / "results" / "tables.md", text)


def _write(page: Path, text: str) -> None:
    """Write a page that changed."""
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")


def outside(app: Any, docname: str, source: list[str]) -> None:
    """Say what is not on the site by its name: files of the repository, and addresses elsewhere."""
    files = r"\[`?([^\]`]+)`?\]\((?:\.\./)+(?:examples|benchmarks|docker|tests|results)[^)]*\)"
    addresses = r"\[([^\]]+)\]\(https?://([^)]+)\)"
    source[0] = re.sub(addresses, r"\1 (`\2`)", re.sub(files, r"`\1`", source[0]))


def setup(app: Any) -> None:
    app.connect("builder-inited", commands)
    app.connect("builder-inited", tables)
    app.connect("source-read", outside)
