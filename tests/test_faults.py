"""Real commands, disturbed: killed, frozen over a lease's end, two on one store, a folder that is lost, a full disk.

Afterwards all is as if nothing had happened. `test_ray.py` and `test_slurm.py` kill parts of engines.

COVR_BENCH_KILLS=150 COVR_BENCH_SEED=1 python -m pytest -m cluster tests/test_faults.py -k random -s
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL_DRQV2
from ray_faults import MARK, marked
from test_runner import rows_of
from undisturbed import assert_as_undisturbed

from results import provenance
from results.holding import LEASE_FILE, Holding, read_lease
from results.layout import run_ids
from results.store import run_folder

PATIENCE_S = 1800.0  # on a busy machine
LEASE_S = 4.0
LOST_S = 30.0  # for how long a shared folder is gone
HOUR_S = 3600
KILLS = int(os.environ.get("COVR_BENCH_KILLS", "12"))
SEED = int(os.environ.get("COVR_BENCH_SEED", "0"))
GRACE_S = 10.0

pytestmark = pytest.mark.cluster  # minutes: real commands, and waits over a lease's length


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is measured once is known to all commands here, and to no others, who might measure it too."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def short(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVR_BENCH_LEASE_S", str(LEASE_S))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture
def command(start: Any) -> Callable[..., subprocess.Popen[str]]:
    """A small plan, in a store, by processes that are forked."""

    def call(out: Path, seeds: str, *more: object, **options: Any) -> subprocess.Popen[str]:
        words = ["--suite", "catch", "--task", "catch", "--agent", "drqv2", "--budget", "short", "--device", "cpu"]
        words += ["--env-steps", "300", "--seeds", seeds, "--workers", "1", "--conv-kernel", "torch"]
        words += [word for text in SMALL_DRQV2 for word in ("--set", text)]
        running: subprocess.Popen[str] = start(
            "run", *words, "--launcher", "forked", "--out", out, "--checkpoint-every", "2", *more, **options
        )
        return running

    return call


def finished(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, out + err
    return out


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def trains(out: Path) -> Holding | None:
    """The lease of a run that has been training for some steps."""
    for run_id in provenance.statuses(out) if out.exists() else ():
        holding = read_lease(run_folder(out, run_id))
        if holding and holding.lives() and any(row["kind"] == "episode" for row in rows_of(out, run_id)):
            return holding
    return None


KINDS = (*["kill a worker"] * 8, "stop a worker", "freeze a worker", "kill the command", "stop the command")


class Storm:
    """A command whose parts are killed; it is given again as often as it ends early."""

    def __init__(self, begin: Callable[[], subprocess.Popen[str]], out: Path, draw: random.Random) -> None:
        self.begin, self.out, self.draw = begin, out, draw
        self.process = begin()
        self.starts = 1

    def goes_on(self) -> bool:
        """Whether it has not finished; started again if it ended otherwise."""
        if (status := self.process.poll()) is None:
            return True
        said, err = self.process.communicate()
        assert "Traceback" not in said + err
        if status == 0:
            return False
        self.process, self.starts = self.begin(), self.starts + 1
        return True

    def writers(self) -> list[int]:
        """Processes of runs."""
        held = [read_lease(run_folder(self.out, run_id)) for run_id in run_ids(self.out)]
        return [each.pid for each in held if each and each.lives()]

    def strike(self, kind: str) -> bool:
        """Kill something of a kind at a random time after there is something to kill; False if all has finished."""
        while not self.writers():
            if not self.goes_on():
                return False
            time.sleep(0.02)
        time.sleep(self.draw.uniform(0, 1.5))
        if kind == "kill the command":
            self.process.kill()
        elif kind == "stop the command":
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.communicate(timeout=GRACE_S)
            self.process.kill()
        elif victims := self.writers():
            signals = {"kill a worker": signal.SIGKILL, "stop a worker": signal.SIGTERM}
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim := self.draw.choice(victims), signals.get(kind, signal.SIGSTOP))
                if kind == "freeze a worker":
                    time.sleep(self.draw.uniform(0, 2 * LEASE_S))
                    os.kill(victim, signal.SIGCONT)
        return True


def test_kills_at_random_change_nothing(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers and the command, at any time, in planning and in a checkpoint too."""
    draw, done, number, starts = random.Random(SEED), Counter[str](), 0, 0
    monkeypatch.setenv(MARK, mark := f"{os.getpid()}-kills")
    kinds = [KINDS[number % len(KINDS)] for number in range(KILLS)]
    draw.shuffle(kinds)
    while kinds:
        out, seeds = tmp_path / str(number), ",".join(str(number + seed) for seed in range(3))
        storm = Storm(partial(command, out, seeds, "--workers", "2", "--set-launcher", "restarts=1000"), out, draw)
        while kinds and storm.strike(kinds[-1]):
            done[kinds.pop()] += 1
        wait_for(lambda storm=storm: not storm.goes_on())
        wait_for(lambda: not marked(mark))  # no process is left
        assert_as_undisturbed(out, tmp_path / "undisturbed", runs=3)
        number, starts = number + 3, starts + storm.starts
        print(f"{sum(done.values())} disturbances of {number} runs, {starts} starts of the command: {dict(done)}")


def test_two_commands_and_a_frozen_worker_leave_what_one_undisturbed_command_does(command: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = command(out, "0,1")
    frozen = wait_for(lambda: trains(out)).pid
    os.kill(frozen, signal.SIGSTOP)
    try:
        finished(command(out, "0,1"))  # takes the frozen run over, and does the other
    finally:
        os.kill(frozen, signal.SIGCONT)
    said, err = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 1, said + err
    assert "interrupted: run catch@short-300" in said and "was taken over by another process" in said
    assert "2 of 2 runs did not finish" not in said  # the other counts as finished
    finished(command(out, "0,1"))
    assert_as_undisturbed(out, tmp_path / "undisturbed", runs=2)


def test_two_commands_at_once_share_the_work(command: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    both = [command(out, "0,1") for _ in range(2)]
    printed = [process.communicate(timeout=PATIENCE_S) for process in both]
    for process, (said, err) in zip(both, printed, strict=True):
        assert process.returncode in (0, 1), said + err
        assert "Traceback" not in said + err
        unfinished = [line for line in said.splitlines() if " interrupted: " in line]
        assert process.returncode == (1 if unfinished else 0)
        assert all("is being written by process " in line for line in unfinished), unfinished
    finished(command(out, "0,1"))
    assert_as_undisturbed(out, tmp_path / "undisturbed", runs=2)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 64 MiB."""
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    for made in (["mkfs.ext4", "-q", "-m", "0", str(image)], ["mount", "-o", "loop", str(image), str(folder)]):
        if not shutil.which(made[0]) or subprocess.run(made, capture_output=True).returncode:
            pytest.skip("only the superuser, where there are loop devices, can mount a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_shared_folder_that_is_lost_for_half_a_minute_costs_nothing(
    command: Any, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it is away, as when a mount is gone, and once all writing hangs, as when its server does not answer."""
    monkeypatch.delenv("COVR_BENCH_LEASE_S")
    outs = [tmp_path / "share" / "out", disk / "out"]
    running = [command(out, "0", "--env-steps", "600") for out in outs]
    for out in outs:
        wait_for(lambda out=out: trains(out))
    hang = f"fsfreeze -f '{disk}' && sleep {LOST_S}; fsfreeze -u '{disk}'"
    server = subprocess.Popen(["sh", "-c", hang], start_new_session=True)  # ends it, whatever becomes of this test
    os.rename(tmp_path / "share", tmp_path / "away")
    time.sleep(LOST_S)
    assert not (tmp_path / "share").exists()
    os.rename(tmp_path / "away", tmp_path / "share")
    assert server.wait(PATIENCE_S) == 0
    for process, out in zip(running, outs, strict=True):
        finished(process)
        (record,) = provenance.statuses(out).values()
        assert len(record["sessions"]) == 1
        assert_as_undisturbed(out, tmp_path / "undisturbed", runs=1)


def test_a_full_disk_ends_runs_at_once_and_the_same_command_goes_on(command: Any, disk: Path, tmp_path: Path) -> None:
    out, ballast = disk / "out", disk / "ballast"
    process = command(out, "0")
    wait_for(lambda: trains(out))
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    said, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, said + err
    assert "No space left on device" in said + err
    assert "1 of 1 runs did not finish" in said
    ballast.unlink()
    finished(command(out, "0"))
    assert_as_undisturbed(out, tmp_path / "undisturbed", runs=1)


CLOCK = "import os, time\nreal, off = time.time, float(os.environ['CLOCK_OFF_S'])\ntime.time = lambda: real() + off\n"


def test_clocks_that_are_an_hour_off_change_nothing(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose clock is fast dies; one whose clock is slow goes on, after a lease's length without a beat."""
    out = tmp_path / "out"
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(CLOCK)
    monkeypatch.setenv("CLOCK_OFF_S", str(HOUR_S))
    fast = command(out, "0", path=(tmp_path / "clock",))
    worker = wait_for(lambda: trains(out))
    for pid in (fast.pid, worker.pid):
        os.kill(pid, signal.SIGKILL)
    fast.communicate()
    (run_id,) = provenance.statuses(out)
    lease = run_folder(out, run_id) / LEASE_FILE
    wait_for(lambda: not read_lease(lease.parent).lives())  # type: ignore[union-attr]
    lease.write_text(json.dumps(json.loads(lease.read_text()) | {"machine": "another", "host": "node7"}))
    last = rows_of(out, run_id)[-1]["time"]
    assert last > time.time() + HOUR_S / 2
    monkeypatch.setenv("CLOCK_OFF_S", str(-HOUR_S))
    finished(command(out, "0", path=(tmp_path / "clock",)))
    assert rows_of(out, run_id)[-1]["time"] < last - HOUR_S
    assert_as_undisturbed(out, tmp_path / "undisturbed", runs=1)
