"""Plant small faults one by one and see whether a test notices: `python tests/planted/plant.py [WORD ...]`.

Each entry of catalogue.yaml is a file, its right text (found there exactly once), the faulty text, and the tests that
should fail. The fault is made in a copy of the tree; words choose the entries whose file or text holds one of them.
Ends with the share of faults caught, and exit code 1 if one was not. Takes some seconds a fault; run by hand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("analysis", "baselines", "covr", "covr_bench", "results", "suites", "tests", "benchmarks", "examples", "docs")
COPIED_FILES = ("pyproject.toml", "README.md", "CONTRIBUTING.md")
PATIENCE_S = 600.0


@dataclass(frozen=True)
class Fault:
    """right, wrong: the text of `file` and what it is replaced by. tests: those that should notice."""

    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


def catalogue() -> list[Fault]:
    """Every fault. Raises ValueError where the right text is not in its file exactly once."""
    entries = yaml.safe_load((Path(__file__).parent / "catalogue.yaml").read_text(encoding="utf-8"))
    faults = [Fault(each["file"], each["right"], each["wrong"], tuple(each["tests"])) for each in entries]
    for fault in faults:
        if (count := (ROOT / fault.file).read_text(encoding="utf-8").count(fault.right)) != 1:
            raise ValueError(f"{fault.file} holds {fault.right!r} {count} times; mend that entry of the catalogue")
    return faults


def copied(folder: Path) -> None:
    """Copy the tree into a folder, without runs."""
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    for name in COPIED_FILES:
        shutil.copy(ROOT / name, folder)


def caught(fault: Fault, tree: Path) -> bool:
    """Whether the tests notice the fault, planted in a copy of the tree and taken out again."""
    file = tree / fault.file
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")
    try:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--import-mode", "importlib", "-p", "no:cacheprovider"]
        env = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run([*command, *fault.tests], cwd=tree, env=env, capture_output=True, timeout=PATIENCE_S)
        return done.returncode == 1
    except subprocess.TimeoutExpired:
        return True  # it hangs: somebody would look
    finally:
        file.write_text(text, encoding="utf-8")


def tried(words: list[str]) -> Iterator[tuple[Fault, bool]]:
    """Each chosen fault and whether it was caught."""
    with tempfile.TemporaryDirectory() as folder:
        copied(Path(folder))
        for fault in catalogue():
            if not words or any(word in f"{fault.file} {fault.right} {fault.wrong}" for word in words):
                yield fault, caught(fault, Path(folder))


def main() -> int:
    """Print each fault as it is tried, then the share caught."""
    outcomes = []
    for fault, noticed in tried(sys.argv[1:]):
        outcomes.append(noticed)
        print(
            f"{'caught  ' if noticed else 'SURVIVED'} {fault.file}: {fault.right.strip()!r} -> {fault.wrong.strip()!r}"
        )
        sys.stdout.flush()
    print(f"{sum(outcomes)} of {len(outcomes)} caught")
    return 0 if all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
