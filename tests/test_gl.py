"""Choosing the OpenGL backend: order, refusal, the message that mends it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from suites import gl
from suites.gl import Backend, GLError, choose_backend

if TYPE_CHECKING:
    from collections.abc import Callable

LLVMPIPE = Backend("egl", "Mesa/X.org", "llvmpipe (LLVM 15.0.6, 256 bits)")
HARDWARE = Backend("egl", "NVIDIA Corporation", "NVIDIA H100/PCIe/SSE2")


def probe_where(works: dict[str, Backend], asked: list[str]) -> Callable[[str], Backend]:
    def probe(name: str) -> Backend:
        asked.append(name)
        if name not in works:
            raise GLError(f"{name}: library not found")
        return works[name]

    return probe


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)


def test_first_backend_that_draws_is_taken() -> None:
    asked: list[str] = []
    osmesa = Backend("osmesa", "Mesa", "softpipe")
    assert choose_backend(probe_where({"osmesa": osmesa, "glfw": LLVMPIPE}, asked), lambda: False) == osmesa
    assert asked == ["egl", "osmesa"]


def test_a_set_backend_is_the_only_one_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    asked: list[str] = []
    with pytest.raises(GLError, match="MUJOCO_GL=osmesa is set"):
        choose_backend(probe_where({"egl": LLVMPIPE}, asked), lambda: False)
    assert asked == ["osmesa"]


def test_failure_names_every_backend_and_the_packages() -> None:
    with pytest.raises(GLError) as error:
        choose_backend(probe_where({}, []), lambda: False)
    message = str(error.value)
    failures = [f"{name}: library not found" for name in gl.BACKENDS]
    packages = ["libegl1", "libgl1-mesa-dri", "libosmesa6", "mesa-libEGL", "mesa-dri-drivers", "mesa-libOSMesa"]
    for part in failures + packages:
        assert part in message


@pytest.mark.parametrize(
    ("backend", "nvidia", "warns"), [(LLVMPIPE, True, True), (LLVMPIPE, False, False), (HARDWARE, True, False)]
)
def test_warns_of_software_drawing_beside_a_gpu(
    backend: Backend, nvidia: bool, warns: bool, recwarn: pytest.WarningsRecorder
) -> None:
    choose_backend(probe_where({"egl": backend}, []), lambda: nvidia)
    assert [str(warning.message) for warning in recwarn if "software" in str(warning.message)] != [] or not warns
    assert len(recwarn) == int(warns)


def test_a_probe_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gl, "PROBE", "import time; time.sleep(60)")
    with pytest.raises(GLError, match=r"egl: no frame after 0\.2 s"):
        gl.probe("egl", timeout=0.2)


def test_a_probe_reports_the_childs_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gl, "PROBE", "raise RuntimeError('no display')")
    with pytest.raises(GLError, match="osmesa: RuntimeError: no display"):
        gl.probe("osmesa")


def test_a_probe_killed_without_a_message_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gl, "PROBE", "import os; os._exit(3)")
    with pytest.raises(GLError, match="glfw: exit status 3, no message"):
        gl.probe("glfw")


def test_an_unknown_backend_fails_with_the_valid_names() -> None:
    with pytest.raises(GLError, match=r"must be one of.*egl.*osmesa"):
        gl.probe("no_such_backend")


def test_ensure_backend_sets_the_variable_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("mujoco", "dm_control"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    # Set through monkeypatch first, so that what ensure_backend writes is undone afterwards.
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr(gl, "choose_backend", lambda: Backend("osmesa", "Mesa", "softpipe"))
    gl.ensure_backend()
    assert os.environ["MUJOCO_GL"] == "osmesa"
    monkeypatch.setattr(gl, "choose_backend", lambda: HARDWARE)
    gl.ensure_backend()
    assert os.environ["MUJOCO_GL"] == "osmesa"


def test_suites_import_no_simulator() -> None:
    code = (
        "import sys, suites.dmc, suites.catch, suites.gl; print({'mujoco', 'dm_control', 'torch'} & set(sys.modules))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "set()"


def test_a_missing_dm_control_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gl.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(gl.GLError, match="pip install --no-deps 'dm_control"):
        gl.choose_backend()
    with pytest.raises(ImportError, match="pip install --no-deps 'dm_control"):
        gl.require_dm_control()
