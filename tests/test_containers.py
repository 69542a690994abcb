"""The image and the compose file, as far as they can be checked without a container engine."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import yaml
from packaging.requirements import Requirement

HOME = Path(__file__).parent.parent
DOCKERFILE = (HOME / "docker" / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((HOME / "docker" / "compose.yaml").read_text())


def instructions() -> list[list[str]]:
    """The words of each instruction; continued lines count as one."""
    lines = [line for line in DOCKERFILE.splitlines() if line.strip() and not line.startswith("#")]
    return [line.split(maxsplit=1) for line in "\n".join(lines).replace("\\\n", " ").splitlines()]


def test_what_the_image_copies_is_there() -> None:
    copied = [word for name, rest in instructions() if name == "COPY" for word in rest.split()[:-1]]
    assert "." in copied
    assert all((HOME / word).exists() for word in copied)
    builds = next(rest for name, rest in instructions() if name == "RUN" and "case" in rest)
    assert subprocess.run(["sh", "-n", "-c", builds]).returncode == 0
    assert {"cpu)", "cuda)"} <= set(builds.split())


def test_what_the_image_installs_is_what_the_package_needs() -> None:
    """The list that its one-line program makes, which needs Python 3.11 as the image has it."""
    (program,) = re.findall(r"python -c ('.*?')", DOCKERFILE)
    code = program.strip("'") if sys.version_info >= (3, 11) else program.strip("'").replace("tomllib", "tomli")
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True, check=True)
    assert {"torch", "gymnasium", "ray"} <= {Requirement(line).name for line in done.stdout.splitlines()}


def test_a_head_and_two_workers_share_a_folder() -> None:
    head, worker = COMPOSE["services"]["head"], COMPOSE["services"]["worker"]
    assert worker["deploy"]["replicas"] == 2
    assert head["volumes"] == worker["volumes"] == ["shared:/shared"]
    assert "shared" in COMPOSE["volumes"]
    assert (HOME / "docker" / head["build"]["context"] / head["build"]["dockerfile"]).samefile(
        HOME / "docker/Dockerfile"
    )
    assert head["image"] == worker["image"]
    assert "--head" in shlex.split(head["command"]) and "--address=head:6379" in shlex.split(worker["command"])
