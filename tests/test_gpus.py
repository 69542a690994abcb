"""Runs on GPUs: which there are, which run gets which, and that no GPU is ever used by more runs than it should."""

from __future__ import annotations

import os
import stat
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covr_bench import UserError
from covr_bench.config.request import request
from covr_bench.config.run_config import RunConfig
from covr_bench.face import prepare
from covr_bench.launch.base import Job, SharesGpus, State
from covr_bench.launch.find import make_launcher
from covr_bench.launch.local import LocalLauncher, Settings
from covr_bench.launch.mps import Mps
from covr_bench.launch.seats import Seats
from covr_bench.run import egl, gpus
from covr_bench.run.gpus import Inventory, installed, visible, with_egl
from covr_bench.run.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

H100 = "NVIDIA H100 80GB HBM3"
TABLE = f"0, GPU-aaaa1111, {H100}, 81559\n1, GPU-bbbb2222, {H100}, 81559\n2, GPU-bbcc3333, {H100}, 81559\n"
LISTING = "".join(f"GPU {n}: {H100} (UUID: {uuid})\n" for n, uuid in enumerate(("GPU-aaaa1111", "GPU-bbbb2222")))
PARTED = f"""GPU 0: {H100} (UUID: GPU-aaaa1111)
  MIG 3g.40gb     Device  0: (UUID: MIG-11111111-aaaa)
  MIG 1g.10gb+me  Device  1: (UUID: MIG-22222222-bbbb)
GPU 1: {H100} (UUID: GPU-bbbb2222)
"""
THREE = installed(TABLE, LISTING)
SESSION = Session("covr-bench run ...", {"gl_backend": "egl"})


def stock(count: int, devices: Sequence[int | None] = ()) -> Inventory:
    table = "".join(f"{n}, GPU-{n}, {H100}, 81559\n" for n in range(count))
    return Inventory(with_egl(installed(table, ""), devices), "a fake")


def run_config(number: int, out: Path | str = "out") -> RunConfig:
    return RunConfig(f"s@b/t/a/{number}", "s", 1, "t", "a", number, 10, 10, 1, 1, device="cuda", out=str(out))


def test_what_nvidia_smi_lists_is_read() -> None:
    assert [(gpu.index, gpu.visible, gpu.name, gpu.is_part) for gpu in THREE] == [
        (n, str(n), H100, False) for n in range(3)
    ]
    assert THREE[0].memory_bytes == 81559 * 2**20
    warned = "WARNING: infoROM is corrupted at gpu 0000:01:00.0\n"
    assert installed(TABLE + warned, "") == installed(TABLE, "")
    odd = installed("0, GPU-x, NVIDIA GB10, one, [N/A]\n\n", "")
    assert (odd[0].name, odd[0].memory_bytes) == ("NVIDIA GB10,one", 0)


def test_a_gpu_in_mig_mode_is_its_parts() -> None:
    found = installed(TABLE, PARTED)
    assert [gpu.visible for gpu in found] == ["MIG-11111111-aaaa", "MIG-22222222-bbbb", "1", "2"]
    assert [gpu.memory_bytes for gpu in found[:2]] == [40 * 10**9, 10 * 10**9]
    assert found[0].environment()["CUDA_VISIBLE_DEVICES"] == "MIG-11111111-aaaa"
    assert all(gpu.egl is None for gpu in with_egl(found[:2], (0, 1)))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, ["0", "1", "2"]),
        ("2,0", ["2", "0"]),
        (" 1 ", ["1"]),
        ("GPU-aaaa1111", ["GPU-aaaa1111"]),
        ("GPU-bbb,0", ["GPU-bbb", "0"]),  # a beginning that is enough
        ("0,-1,2", ["0"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_cuda_visible_devices_is_respected_as_given(asked: str | None, expected: list[str]) -> None:
    assert [gpu.visible for gpu in visible(THREE, asked)] == expected


def test_mig_parts_are_named_and_a_number_stands_for_all_of_a_gpu() -> None:
    parted = installed(TABLE, PARTED)
    assert [gpu.visible for gpu in visible(parted, "MIG-2222")] == ["MIG-22222222-bbbb"]
    assert [gpu.visible for gpu in visible(parted, "0")] == ["MIG-11111111-aaaa", "MIG-22222222-bbbb"]


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ("3", r"CUDA_VISIBLE_DEVICES=3: '3' is none of this machine's GPUs. Valid: 0 or GPU-aaaa1111, 1 or"),
        ("GPU-bb", r"'GPU-bb' names several GPUs or one twice"),
        ("0,GPU-aaaa", r"'GPU-aaaa' names several GPUs or one twice"),
        ("MIG-x", r"'MIG-x' is none of"),
    ],
)
def test_a_name_that_is_none_is_refused(asked: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        visible(THREE, asked)


def test_egl_devices_are_found_by_the_gpu_they_belong_to() -> None:
    """EGL lists a software device and the GPUs in another order than CUDA."""
    found = with_egl(visible(THREE, "2,0,1"), (2, None, 0))
    assert [gpu.egl for gpu in found] == [0, 2, None]
    assert found[0].environment() == {
        "CUDA_VISIBLE_DEVICES": "2", "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "MUJOCO_EGL_DEVICE_ID": "0"
    }  # fmt: skip
    assert "MUJOCO_EGL_DEVICE_ID" not in found[2].environment()
    said = gpus.graphics(Inventory(found, ""), "egl")
    assert said.startswith("EGL has no device for GPU 1:") and "NVIDIA_DRIVER_CAPABILITIES" in said
    assert gpus.graphics(Inventory(found[:2], ""), "egl").endswith("EGL device 0 of GPU 2, 2 of GPU 0")
    assert gpus.graphics(Inventory(found, ""), "osmesa") == "frames are drawn by osmesa, not on the GPUs"
    assert gpus.graphics(Inventory(found, ""), "") == ""


class FakeEgl:
    """EGL's three functions, as a library with that many devices has them."""

    def __init__(self, numbers: Sequence[int | None]) -> None:
        import ctypes

        pointers, ints = ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int)

        def listing(most: int, devices: Any, count: Any) -> int:
            for place in range(len(numbers)):
                devices[place] = 1000 + place
            count[0] = len(numbers)
            return 1

        def attribute(device: int, name: int, value: Any) -> int:
            number = numbers[device - 1000] if name == 0x323A else None
            if number is None:
                return 0
            value[0] = number
            return 1

        self._kept = (
            ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, pointers, ints)(listing),
            ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_ssize_t))(attribute),
        )
        addresses = [ctypes.cast(each, ctypes.c_void_p).value for each in self._kept]
        by_name = dict(zip((b"eglQueryDevicesEXT", b"eglQueryDeviceAttribEXT"), addresses, strict=True))

        class Lookup:
            def __call__(self, name: bytes) -> int | None:
                return by_name.get(name)

        self.eglGetProcAddress = Lookup()


def test_egl_is_asked_which_gpu_each_device_is() -> None:
    assert egl.query(FakeEgl([1, None, 0])) == [1, None, 0]


def test_egl_of_this_machine_answers_or_is_absent() -> None:
    """In a child process; the software device of Mesa is no GPU."""
    found = egl.cuda_devices()
    assert all(number is None or number >= 0 for number in found)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs in front of all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return folder


def program(path: Path, text: str) -> None:
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_the_inventory_is_what_the_tools_say(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tools / "nvidia-smi", f"import sys\nprint({LISTING!r} if '-L' in sys.argv else {TABLE!r}, end='')")
    monkeypatch.setattr(gpus, "cuda_devices", lambda: (1, 0, 2))
    assert [gpu.egl for gpu in gpus.inventory().gpus] == [1, 0, 2]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert (gpus.inventory().gpus[0].egl, gpus.inventory().reason) == (0, "CUDA_VISIBLE_DEVICES=1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UserError, match="there is no GPU to use; CUDA_VISIBLE_DEVICES='' hides 3"):
        gpus.inventory()


def test_numbers_that_cuda_counts_otherwise_are_refused(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = "0, GPU-a, slow, 1\n1, GPU-b, fast, 1\n"
    program(tools / "nvidia-smi", f"import sys\nprint('' if '-L' in sys.argv else {mixed!r}, end='')")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    with pytest.raises(UserError, match=r"CUDA_DEVICE_ORDER=FASTEST_FIRST counts .* name them in CUDA_VISIBLE_DEVICES"):
        gpus.inventory()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b")
    assert gpus.inventory().gpus[0].environment()["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"


def test_a_machine_without_the_tools_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch, tools: Path) -> None:
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(UserError, match=r"--per-gpu needs nvidia-smi .* leave --per-gpu out"):
        gpus.inventory()
    program(tools / "nvidia-smi", "import sys\nsys.exit('no driver')")
    with pytest.raises(UserError, match="that fails: no driver"):
        gpus.inventory()


@given(st.integers(1, 4), st.integers(1, 4), st.lists(st.integers(0, 30), max_size=60))
def test_seats_are_never_overfilled_and_filled_evenly(count: int, per_gpu: int, choices: list[int]) -> None:
    seats, seated = Seats(stock(count), per_gpu), dict[str, str]()
    for step, choice in enumerate(choices):
        if seated and choice % 3 == 0:
            gone = sorted(seated)[choice % len(seated)]
            seats.leave(gone)
            del seated[gone]
        elif len(seated) == count * per_gpu:
            with pytest.raises(RuntimeError, match="no place"):
                seats.take(str(step))
        else:
            before = Counter(seated.values())
            seated[str(step)] = seats.take(str(step))["CUDA_VISIBLE_DEVICES"]
            assert before[seated[str(step)]] == min(before[str(n)] for n in range(count))
        assert max(Counter(seated.values()).values(), default=0) <= per_gpu


class Fake:
    """A process that ends when its script says so, with that status."""

    def __init__(self, job: Job, looks: int, status: int, live: list[Job]) -> None:
        self.job, self.descriptor = job, None
        self._looks, self._status, self._live = looks, status, live
        job.state = State.RUNNING
        live.append(job)

    def ended(self) -> bool:
        self._looks -= 1
        if self._looks < 0 and self.job in self._live:
            self._live.remove(self.job)
        return self._looks < 0

    def status(self) -> int:
        return self._status

    def stop(self) -> None:
        self.job.state, self._looks, self._status = State.STOPPING, 0, 75

    def kill(self) -> None:
        self._looks = 0


class Scripted(LocalLauncher):
    """Starts fakes; `script` has for each start how long it lives and how it ends, None for one that cannot start."""

    def __init__(self, restarts: int, script: list[tuple[int, int] | None]) -> None:
        super().__init__(Settings(restarts=restarts))
        self.script, self.live, self.starts = script, list[Job](), 0

    def start(self, job: Job, session: Session) -> Fake:
        self.starts += 1
        what = self.script.pop() if self.script else (0, 0)
        if what is None:
            raise OSError(28, "No space left on device")
        return Fake(job, *what, self.live)


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 3),
    st.lists(st.none() | st.tuples(st.integers(0, 4), st.sampled_from((0, 1, 75, -9, -6))), max_size=40),
    st.integers(0, 25) | st.none(),
)
def test_no_two_live_runs_beyond_k_share_a_gpu(
    count: int, per_gpu: int, restarts: int, script: list[tuple[int, int] | None], stop_at: int | None
) -> None:
    """Over random starts, ends, kills, restarts, failures to start, and a wish to stop."""
    launcher = Scripted(restarts, list(script))
    launcher.seats = Seats(stock(count), per_gpu)
    jobs = [Job(run_config(number)) for number in range(12)]
    looks = 0

    def watch(jobs: Sequence[Job]) -> None:
        nonlocal looks
        here = Counter(job.place["CUDA_VISIBLE_DEVICES"] for job in launcher.live)
        assert max(here.values(), default=0) <= per_gpu
        assert len(launcher.live) <= per_gpu * count
        looks += 1
        if looks == stop_at:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("covr_bench.launch.local.TICK_S", 0.0)
        try:
            launcher.run(jobs, 99, SESSION, watch)
            assert all(job.state.ended for job in jobs)
        except KeyboardInterrupt:
            assert looks >= (stop_at or 0)
    assert launcher.seats is not None
    assert not launcher.seats._taken
    assert not launcher.live


SAYS = """
import json, os, sys
order = json.load(sys.stdin)
names = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "MUJOCO_EGL_DEVICE_ID", "CUDA_MPS_PIPE_DIRECTORY")
print(json.dumps({"facts": order["session"]["facts"]} | {name: os.environ.get(name) for name in names}), flush=True)
"""


def test_a_real_process_sees_its_gpu_and_its_egl_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is killed once, and gets a place again."""
    killed = tmp_path / "killed"
    once = f"import os\nif not os.path.exists({str(killed)!r}): open({str(killed)!r}, 'w'); os.kill(os.getpid(), 9)\n"
    monkeypatch.setattr("covr_bench.launch.worker.python_child", lambda module: [sys.executable, "-c", SAYS + once])
    monkeypatch.setattr("covr_bench.run.gpus.inventory", lambda: stock(2, (None, 1, 0)))
    launcher = make_launcher("local")
    assert isinstance(launcher, SharesGpus)
    placement = launcher.share_gpus(1, "egl")
    assert placement.workers == 2
    assert "2 NVIDIA H100 80GB HBM3 (85.5 GB), one run on each; a fake" in placement.remarks[0]
    jobs = [Job(run_config(number, tmp_path)) for number in range(3)]
    launcher.run(jobs, 8, SESSION, lambda jobs: None)
    assert [job.state for job in jobs] == [State.FINISHED] * 3
    assert sum(job.restarts for job in jobs) == 1
    for job in jobs:
        seen = job.progress
        assert (seen["CUDA_VISIBLE_DEVICES"], seen["MUJOCO_EGL_DEVICE_ID"]) in (("0", "2"), ("1", "1"))
        assert seen["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
        assert seen["facts"]["cuda_visible_devices"] == seen["CUDA_VISIBLE_DEVICES"]
        assert seen["facts"]["gl_backend"] == "egl"


MPS = """
import os, pathlib, sys
folder = pathlib.Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", {default!r}))
with open({log!r}, "a") as log:
    asked = "-d" if "-d" in sys.argv else sys.stdin.readline().strip()
    print(asked, os.environ.get("CUDA_VISIBLE_DEVICES"), file=log)
    if asked == "-d":
        (folder / "up").touch()
    elif asked == "quit":
        (folder / "up").unlink()
    else:
        sys.exit(0 if (folder / "up").exists() else 1)
"""


def test_mps_is_started_used_and_ended(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are told their GPUs by UUID: the service may count them otherwise."""
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    log, default = tmp_path / "log", tmp_path / "default"
    default.mkdir()
    program(tools / "nvidia-cuda-mps-control", MPS.format(log=str(log), default=str(default)))
    monkeypatch.setattr("covr_bench.launch.worker.python_child", lambda module: [sys.executable, "-c", SAYS])
    monkeypatch.setattr("covr_bench.run.gpus.inventory", lambda: stock(2))
    launcher = make_launcher("local", {"mps": "true"})
    assert isinstance(launcher, SharesGpus)
    assert "a fault of one run ends all runs that share its GPU" in launcher.share_gpus(2, "").remarks[-1]
    jobs = [Job(run_config(number, tmp_path)) for number in range(2)]
    launcher.run(jobs, 8, SESSION, lambda jobs: None)
    assert {job.progress["CUDA_VISIBLE_DEVICES"] for job in jobs} == {"GPU-0", "GPU-1"}
    (pipes,) = {job.progress["CUDA_MPS_PIPE_DIRECTORY"] for job in jobs}
    assert log.read_text().split("\n")[:-1] == [
        "get_server_list 0,1", "-d None", "get_server_list 0,1", "quit 0,1"
    ]  # fmt: skip
    assert not Path(pipes).exists()


def test_an_mps_that_runs_is_used_and_left_alone(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    (tmp_path / "up").touch()
    program(tools / "nvidia-cuda-mps-control", MPS.format(log=str(tmp_path / "log"), default=""))
    with Mps() as service:
        assert (service.started, service.environment) == (False, {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)})
    assert (tmp_path / "log").read_text() == "get_server_list None\n"


def test_an_mps_that_is_absent_or_broken_is_named(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="mps=true needs nvidia-cuda-mps-control"), Mps():
        pass
    program(tools / "nvidia-cuda-mps-control", "import sys\nsys.exit('no permission')")
    with pytest.raises(UserError, match="does not start: no permission"), Mps():
        pass
    monkeypatch.setattr("covr_bench.run.gpus.inventory", lambda: Inventory(installed(TABLE, PARTED), ""))
    with pytest.raises(UserError, match="mps=true is for whole GPUs"):
        LocalLauncher(Settings(mps=True)).share_gpus(1, "")


def asked(tmp_path: Path, **options: Any) -> Any:
    return request({"suite": "catch", "agents": "random", "seeds": "0-8", "out": str(tmp_path), "per_gpu": 2} | options)


def test_the_plan_has_k_workers_on_each_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covr_bench.face.device", lambda name, here: "cuda")
    monkeypatch.setattr("covr_bench.run.gpus.inventory", lambda: stock(3))
    preparation = prepare(asked(tmp_path))
    assert preparation.workers == 6
    assert preparation.placement
    assert preparation.placement.remarks == ("GPUs: 3 NVIDIA H100 80GB HBM3 (85.5 GB), 2 runs on each; a fake",)
    assert prepare(asked(tmp_path, workers=4)).workers == 4
    assert prepare(asked(tmp_path, workers=99)).workers == 6
    assert {config.device for config in preparation.plan.todo} == {"cuda"}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"device": "cpu"}, "--per-gpu gives each run a GPU of its own, and the device is cpu: leave --per-gpu out"),
        ({"device": "cuda:1"}, "the device is cuda:1: leave --device out"),
        ({"launcher": "forked"}, "the forked launcher runs on CPUs only"),
        ({"launcher": str(Path(__file__).parent.parent / "examples" / "launcher_plugin.py")}, "does not share GPUs"),
    ],
)
def test_what_cannot_be_is_refused(
    options: dict[str, str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("covr_bench.face.device", lambda name, here: "cuda" if name == "auto" else name)
    with pytest.raises(UserError, match=complaint):
        prepare(asked(tmp_path, **options))
