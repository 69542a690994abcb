"""SIGTERM, SIGINT and SIGHUP stop runs without loss, and no process outlives the command that started it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from test_runner import AGENTS, PATIENCE_S, rows_of, wait_for

from covr_bench.launch import stopping
from covr_bench.launch.stopping import Stopped, exit_status, heeding_signals, noting_signals
from covr_bench.run import child
from covr_bench.run.checkpoint import load_saved
from results import provenance
from results.store import run_folder, writer_pid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Those of a terminal, and the same again after the test."""
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_DFL)
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def send(signum: int) -> None:
    os.kill(os.getpid(), signum)


@pytest.mark.parametrize(("signum", "status"), [*zip(SIGNALS, (130, 143, 129), strict=True)])
def test_each_signal_has_its_exit_status(signum: int, status: int) -> None:
    with pytest.raises(Stopped) as stop, heeding_signals():
        send(signum)
    assert exit_status(stop.value) == status
    assert isinstance(stop.value, KeyboardInterrupt)
    assert signal.getsignal(signum) == signal.SIG_DFL
    assert exit_status(KeyboardInterrupt()) == 130


def test_a_noted_signal_is_raised_where_it_is_asked_for() -> None:
    with noting_signals() as check:
        check()
        send(signal.SIGTERM)
        time.sleep(0)
        with pytest.raises(Stopped, match="SIGTERM"):
            check()
        check()  # once


def test_a_noted_signal_is_not_lost() -> None:
    with pytest.raises(Stopped, match="SIGHUP"), noting_signals():
        send(signal.SIGHUP)


def test_one_wish_sent_as_several_signals_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """`timeout` sends SIGTERM twice, a closing terminal SIGHUP; only a later SIGINT or SIGTERM is impatience."""
    with noting_signals() as check:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        with pytest.raises(Stopped):
            check()
        check()
        monkeypatch.setattr(stopping, "SECOND_AFTER_S", 0.0)
        send(signal.SIGHUP)
        check()
        send(signal.SIGINT)
        with pytest.raises(Stopped, match="SIGINT"):
            check()


@pytest.mark.parametrize("context", [heeding_signals, noting_signals])
def test_an_ignored_signal_stays_ignored(context: Callable[[], Any]) -> None:
    """`nohup covr-bench run ...` outlives its terminal."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with context():
        send(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL


def test_outside_the_main_thread_no_handler_is_installed() -> None:
    """Python allows none there: runs started from a notebook's thread go on without."""
    seen: list[Any] = []

    def run() -> None:
        with noting_signals() as check, heeding_signals():
            check()
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


def test_a_child_whose_parent_has_died_before_it_looks_ends(tmp_path: Path) -> None:
    """Between its start and its wish to be told of its parent's death, that may have happened."""
    (tmp_path / "probe.py").write_text("print('runs')")
    env = os.environ | {"PYTHONPATH": os.pathsep.join([child.HOME, str(tmp_path)])}
    command = child.python_child("probe")
    ours = subprocess.run(command, capture_output=True, text=True, env=env)
    assert (ours.returncode, ours.stdout) == (0, "runs\n"), ours.stderr
    orphan = subprocess.run([*command[:-1], "1"], capture_output=True, text=True, env=env)
    assert orphan.returncode == 1
    assert "the process 1 that started this one is gone" in orphan.stderr


def children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_of(pid: int) -> str:
    """Empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended but that nobody has asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")


@needs_proc
def test_the_trials_of_a_plan_end_with_their_command(start: Any, tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(
        AGENTS.format(name="stuck", at_60="pass", loss="1.0").replace("calls = 0", "def act(self, *_): time.sleep(600)")
    )
    (tmp_path / "stuck.py").write_text("import time\n" + (tmp_path / "stuck.py").read_text())
    command = ["run", "--suite", "catch", "--budget", "smoke", "--agent", "stuck.py", "--dry-run"]
    process = start(*command, cwd=tmp_path)

    def trials() -> list[int]:
        return [pid for pid in children(process.pid) if "covr_bench.run.cost" in command_of(pid)]

    pids = wait_for(trials)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)
    wait_for(lambda: not any(map(alive, pids)))
    assert process.returncode == 143, out + err
    assert "covr-bench: stopped; the same command goes on from here" in err


SLOW = AGENTS.replace("if step == 60:", "time.sleep(0.01)\n        if step == 60:").replace(
    "import os", "import time, os"
)


def slow_runs(tmp_path: Path, seeds: str) -> list[str]:
    """The command of runs that train for some ten seconds each."""
    (tmp_path / "slow.py").write_text(SLOW.format(name="slow", at_60="pass", loss="1.0"))
    command = ["run", "--suite", "catch", "--task", "catch", "--agent", "slow.py", "--seeds", seeds, "--workers", "2"]
    return [*command, "--budget", "smoke", "--env-steps", "2000", "--out", "results"]


def all_train(out: Path, number: int) -> Callable[[], bool]:
    """Whether so many runs have ended an episode."""

    def look() -> bool:
        runs = list(provenance.statuses(out)) if out.exists() else []
        return len([run for run in runs if any(row["kind"] == "episode" for row in rows_of(out, run))]) == number

    return look


def assert_nothing_is_lost(out: Path, number: int) -> None:
    """Every run that had begun has a checkpoint of its very last step, and no process."""
    records = provenance.statuses(out)
    assert len(records) == number
    for run, record in records.items():
        assert record["status"] == "interrupted"
        assert writer_pid(out, run) is None
        saved = load_saved(run_folder(out, run) / "checkpoint")
        assert saved
        assert saved.state["env_steps"] >= rows_of(out, run)[-1]["env_steps"]


def unshare() -> list[str]:
    """What makes the next command process 1 of a container; none where this system does not allow it."""
    ways = (["unshare", "--pid", "--fork", "--mount-proc"], ["unshare", "--user", "--map-root-user", "--pid", "--fork"])
    if shutil.which("unshare"):
        for way in ways:
            if subprocess.run([*way, "true"], capture_output=True).returncode == 0:
                return way
    return []


@pytest.mark.deep
@needs_proc
def test_as_process_1_of_a_container_sigterm_loses_nothing(start: Any, tmp_path: Path) -> None:
    """`docker stop` sends SIGTERM to process 1, for which a signal without a handler does not exist."""
    if not (way := unshare()):
        pytest.skip("this system lets nobody make a PID namespace")
    out = tmp_path / "results"
    process = start(*slow_runs(tmp_path, "0,1,2"), cwd=tmp_path, before=way)
    wait_for(all_train(out, 2))
    (first,) = children(process.pid)
    os.kill(first, signal.SIGTERM)
    printed, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143, printed + err
    assert "covr-bench: stopped; the same command goes on from here" in err
    assert printed.count("stopping: writing a checkpoint") == 2
    assert printed.count("interrupted: checkpointed at ") == 2
    assert "of 2,000 env steps" in printed
    assert "1 run not started" in printed
    assert "Traceback" not in err
    assert_nothing_is_lost(out, 2)


@pytest.mark.deep
@needs_proc
def test_a_closed_terminal_loses_nothing(tmp_path: Path) -> None:
    """The terminal takes its output with it, and sends SIGHUP."""
    import pty

    command = [sys.executable, "-m", "covr_bench", *slow_runs(tmp_path, "0")]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, command)
    reader = threading.Thread(target=_drain, args=(terminal, done := threading.Event()))
    reader.start()
    wait_for(all_train(tmp_path / "results", 1))
    done.set()
    reader.join()
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    assert_nothing_is_lost(tmp_path / "results", 1)


def _drain(terminal: int, done: threading.Event) -> None:
    """Read what a terminal would show, until told."""
    import select

    while not done.is_set():
        if select.select([terminal], [], [], 0.1)[0]:
            os.read(terminal, 4096)
