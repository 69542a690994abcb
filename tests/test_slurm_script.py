"""The Slurm launcher without a Slurm: its settings, its script, what it hands in, and what it makes of the queue."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from test_launch import SESSION, catch_runs

from covr_bench.config.request import from_yaml, request
from covr_bench.kit.errors import UserError
from covr_bench.launch import slurm
from covr_bench.launch.base import Job, State
from covr_bench.launch.execute import execute
from covr_bench.launch.find import make_launcher
from covr_bench.launch.memory import memory_to_retry
from covr_bench.launch.slurm_array import Array, Told, script
from covr_bench.launch.slurm_queue import Key, QueueError, Task, _memory_given, bytes_of
from covr_bench.launch.slurm_watch import MOST_RELEASES, Watched
from results import provenance
from results.holding import LEASE_FILE, holding_of_this_process
from results.layout import run_folder
from results.store import RunWriter

QUICK = {"poll_s": "0.01", "settle_s": "0"}


@dataclass
class FakeQueue:
    """A queue that takes what is handed in and does nothing of it."""

    most: int = 1001
    refuses_after: int = 99
    handed: list[tuple[Path, str]] = field(default_factory=list)
    there: dict[Key, Task] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    silent: bool = False
    without_memory: dict[str, int] = field(default_factory=dict)

    def ended_without_memory(self, job: str) -> tuple[bool, int]:
        return job in self.without_memory, self.without_memory.get(job, 0)

    def submit(self, script: Path, after: str = "") -> str:
        if len(self.handed) >= self.refuses_after:
            raise QueueError("sbatch: error: QOSMaxSubmitJobPerUserLimit")
        number = str(100 + len(self.handed))
        self.handed.append((script, after))
        for index in range(len(Array(script.parent).run_ids)):
            self.there[script.parent.name, index] = Task(f"{number}_{index}", "PENDING", reason="Priority")
        return number

    def tasks(self, prefix: str) -> dict[Key, Task]:
        if self.silent:
            raise QueueError("slurm_load_jobs error: Unable to contact slurm controller")
        return dict(self.there)

    def cores(self, partition: str) -> int:
        return 8

    def gpus(self, partition: str) -> int:
        return 2

    def array_size(self) -> int:
        return self.most

    def cancel(self, jobs: Sequence[str], *, kill: bool = False) -> None:
        self.cancelled += jobs

    def release(self, job: str) -> None:
        self.released.append(job)


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> FakeQueue:
    fake = FakeQueue()
    monkeypatch.setattr(slurm, "Queue", lambda: fake)
    return fake


def jobs_of(out: Path, count: int) -> list[Job]:
    return [Job(config) for config in catch_runs(out, ["random"], seeds=range(count))]


def hand_in(jobs: Sequence[Job], **settings: str) -> None:
    make_launcher("slurm", {"wait": "false"} | settings).run(jobs, 1, SESSION, lambda jobs: None)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"partion": "low"}, r"unknown setting of launcher slurm 'partion'. Did you mean 'partition'"),
        ({"time": "86400"}, r"time = '86400': .*hours:minutes:seconds or days-hours, in quotes in a YAML file"),
        ({"time": "soon"}, r"time = 'soon'"),
        ({"partition": "low\n#SBATCH -n 9"}, r"partition = .*should be one line"),
        ({"most": "-1"}, r"most = '-1'"),
        ({"extra": "nodelist=n1"}, r"extra = 'nodelist=n1': .*such as --nodelist=n1 --exclusive"),
        ({"extra": "--comment='x"}, r"extra = .*No closing quotation"),
        ({"on_stop": "die"}, r"on_stop = 'die'"),
        ({"poll_s": "0"}, r"poll_s = '0'"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, str], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        make_launcher("slurm", settings)


@pytest.mark.parametrize("time", ["24:00:00", "30:00", "2-12", "2-12:30:00", "UNLIMITED", ""])
def test_times_as_slurm_writes_them(time: str) -> None:
    assert make_launcher("slurm", {"time": time})


def test_the_example_of_the_docs_is_read(tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "docs" / "slurm.md").read_text()
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert examples
    for example in examples:
        (tmp_path / "run.yaml").write_text(example)
        asked = request(from_yaml(tmp_path / "run.yaml"))
        assert asked.launcher == "slurm"
        launcher = make_launcher(asked.launcher, asked.launcher_settings)
        assert launcher.settings.time == "24:00:00"  # type: ignore[attr-defined]
    assert set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE)) == set(slurm.Settings.__dataclass_fields__)


def test_the_script(tmp_path: Path) -> None:
    """Options as Slurm reads them, the user's lines, and a shell that ends in the run's process."""
    settings = make_launcher(
        "slurm",
        {"partition": "low", "time": "24:00:00", "gres": "gpu:1", "mem": "8G", "most": "4", "setup": "module load a\nb"}
        | {"extra": "--nodelist=n1 --comment='a b'", "account": "lab", "qos": "long", "constraint": "a100|h100"},
    ).settings  # type: ignore[attr-defined]
    folder = tmp_path / "100% of 'it'"
    text = script(folder, settings.options(10, threads=2), shlex.split(settings.extra), settings.setup)
    lines = text.splitlines()
    options = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]
    given = [word for line in options for word in shlex.split(line)]
    assert {
        "--array=0-9%4", "--requeue", "--open-mode=append", "--signal=B:TERM@120", "--partition=low", "--time=24:00:00",
        "--gres=gpu:1", "--mem=8G", "--account=lab", "--qos=long", "--constraint=a100|h100", "--cpus-per-task=2",
        "--ntasks=1", "--export=ALL", f"--job-name={folder.name}", "--comment=a b",
        f"--output={tmp_path}/100%% of 'it'/%a.log",
    } <= set(given)  # fmt: skip
    assert given[-2:] == ["--nodelist=n1", "--comment=a b"]  # the user's come last
    assert lines[0] == "#!/bin/bash"
    assert lines.index("module load a") < lines.index("b") < len(lines) - 1
    assert lines[-1].startswith("exec ")
    path = tmp_path / "script.sh"
    path.write_text(text)
    subprocess.run(["bash", "-n", path], check=True)


def test_arrays_are_no_larger_than_slurm_takes(queue: FakeQueue, tmp_path: Path) -> None:
    """With a limit of tasks at a time, one array follows the other; every run is in one, in its order."""
    queue.most = 4
    jobs = jobs_of(tmp_path, 10)
    hand_in(jobs, most="2")
    assert [after for _, after in queue.handed] == ["", "100", "101"]
    arrays = [re.findall(r"--array=(\S+)", path.read_text()) for path, _ in queue.handed]
    assert arrays == [["0-3%2"], ["0-3%2"], ["0-1%2"]]
    assert [run_id for path, _ in queue.handed for run_id in Array(path.parent).run_ids] == [
        job.config.run_id for job in jobs
    ]
    assert {job.state for job in jobs} == {State.SUBMITTED}
    assert {job.error for job in jobs} == {"in Slurm as job 100, 101, 102"}
    order = json.loads((queue.handed[0][0].parent / "2.json").read_text())
    assert order["config"] == jobs[2].config.as_dict()
    assert order["session"]["command"] == SESSION.command

    queue.handed.clear()
    hand_in(jobs_of(tmp_path / "other", 5))
    assert [after for _, after in queue.handed] == ["", ""]


def test_what_slurm_has_is_not_handed_in_again(queue: FakeQueue, tmp_path: Path) -> None:
    hand_in(jobs_of(tmp_path, 2))
    jobs = jobs_of(tmp_path, 3)
    hand_in(jobs)
    assert [Array(path.parent).run_ids for path, _ in queue.handed][1:] == [[jobs[2].config.run_id]]
    assert jobs[0].error == "in Slurm as job 100, 101"


def test_folders_of_arrays_that_are_done_are_removed(queue: FakeQueue, tmp_path: Path) -> None:
    hand_in(jobs_of(tmp_path, 1))
    ((done, _),) = queue.handed
    queue.there.clear()
    hand_in(jobs_of(tmp_path, 2)[1:])
    assert done.exists(), "nothing was told of its run, and its log may say why"
    (job,) = jobs_of(tmp_path, 1)
    with RunWriter(tmp_path, job.config.run_id, action_repeat=1) as writer:
        provenance.begin(tmp_path, job.config.run_id, config=job.config.as_dict(), seeds={}, command="this test")
        writer.end()
        provenance.finish(tmp_path, job.config.run_id, "finished", wall_s=1.0)
    queue.there.clear()
    hand_in(jobs_of(tmp_path, 3)[2:])
    assert not done.parent.exists()


def test_a_refusal_is_told_in_slurms_words(queue: FakeQueue, tmp_path: Path) -> None:
    queue.refuses_after = 0
    with pytest.raises(UserError, match=r"Slurm refuses 2 runs.*\n.*QOSMaxSubmitJobPerUserLimit"):
        hand_in(jobs_of(tmp_path, 2))
    assert not list((tmp_path / "slurm").glob("covr-*"))
    queue.most, queue.refuses_after = 2, 1
    jobs = jobs_of(tmp_path, 5)
    hand_in(jobs)
    assert [job.state for job in jobs] == [State.SUBMITTED] * 2 + [State.INTERRUPTED] * 3
    assert {job.error for job in jobs[2:]} == {
        "not handed in, Slurm refuses more: sbatch: error: QOSMaxSubmitJobPerUserLimit"
    }
    queue.silent = True
    with pytest.raises(UserError, match="Slurm does not show its queue, so nothing was handed in"):
        hand_in(jobs_of(tmp_path, 6))


def test_a_plan_for_gpus_that_only_nodes_have(queue: FakeQueue, cli: Any, tmp_path: Path) -> None:
    words = ["run", "--suite", "catch", "--agent", "random", "--budget", "smoke", "--seeds", "0", "--out", tmp_path]
    shown = cli(*words, "--launcher", "slurm", "--device", "cuda:3", "--conv-kernel", "torch", "--dry-run")
    assert shown.code == 0, shown.err
    if "time: about" not in shown.out:  # there is no GPU here
        assert "there is no GPU here to measure on" in shown.out
        assert "needs an NVIDIA GPU" in cli(*words, "--device", "cuda:3", "--dry-run").err
    with pytest.raises(UserError, match=r"gres=gpu:1 asks for GPUs, and the runs compute on the CPU"):
        make_launcher("slurm", {"gres": "gpu:1"}).places("cpu")  # type: ignore[attr-defined]


def test_no_slurm_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"no sbatch on this machine's PATH.*login node"):
        execute(make_launcher("slurm"), catch_runs(tmp_path, ["random"]), 1, SESSION)


def told_of(queue: FakeQueue, outcome: str, **said: Any) -> None:
    ((path, _),) = queue.handed
    Told(outcome, **said).write(Array(path.parent).told(0))


def test_a_job_follows_its_task(queue: FakeQueue, tmp_path: Path) -> None:
    (job,) = jobs_of(tmp_path, 1)
    watched = Watched(queue, settle_s=0.0)  # type: ignore[arg-type]
    array = Array.make(tmp_path, [job.config], SESSION)
    watched.add([job], array, queue.submit(array.write_script({}, [], "")))
    key = (array.name, 0)

    def look(state: str, reason: str = "") -> State:
        queue.there = {key: Task("100_0", state, "n1", reason)} if state else {}
        watched.look(0.0)
        return job.state

    assert look("PENDING", "Priority") is State.WAITING
    assert not job.warnings
    assert look("PENDING", "JobHeldAdmin") is State.WAITING
    assert job.warnings == ["may wait in Slurm for good: JobHeldAdmin (scontrol show job 100_0)"]
    assert look("RUNNING") is State.RUNNING
    told_of(queue, "interrupted", error="checkpointed at 5 of 60 env steps")
    assert look("PENDING", "BeginTime") is State.WAITING  # it was put back, and what it told is of the turn before
    told_of(queue, "running", restarts=1, warnings=["slow"])
    assert look("RUNNING") is State.RUNNING
    assert (job.restarts, job.warnings[1:]) == (1, ["slow"])
    queue.silent = True
    assert look("") is State.RUNNING  # a controller that does not answer has not lost the task
    queue.silent = False
    told_of(queue, "failed", error="ZeroDivisionError", progress={"env_steps": 7})
    assert look("COMPLETING") is State.FAILED
    assert (job.error, job.progress) == ("ZeroDivisionError", {"env_steps": 7})


def test_a_task_that_a_node_could_not_start_is_released_and_at_last_left_to_the_user(
    queue: FakeQueue, tmp_path: Path
) -> None:
    (job,) = jobs_of(tmp_path, 1)
    watched = Watched(queue, settle_s=0.0)  # type: ignore[arg-type]
    array = Array.make(tmp_path, [job.config], SESSION)
    watched.add([job], array, queue.submit(array.write_script({}, [], "")))
    queue.there = {(array.name, 0): Task("100_0", "PENDING", "", "launch failed requeued held")}
    for _ in range(MOST_RELEASES + 1):
        watched.look(0.0)
        assert job.state is State.WAITING
    assert queue.released == ["100_0"] * MOST_RELEASES
    held = "a node could not start it (launch failed requeued held)"
    assert job.warnings[0] == f"{held}: released, 1 of {MOST_RELEASES} times"
    assert job.warnings[-1].startswith("may wait in Slurm for good: launch failed requeued held")


@pytest.mark.parametrize("told", [None, "running", "finished"])
def test_a_task_that_is_gone_without_a_word(told: str | None, queue: FakeQueue, tmp_path: Path) -> None:
    """It has not finished, whatever it told, until the store says so."""
    jobs = jobs_of(tmp_path, 1)
    launcher = make_launcher("slurm", QUICK)
    seen = 0

    def watch(jobs: Sequence[Job]) -> None:
        nonlocal seen
        seen += 1
        if seen == 2:
            queue.there.clear()
            if told:
                told_of(queue, told)

    launcher.run(jobs, 1, SESSION, watch)
    assert jobs[0].state is State.INTERRUPTED
    assert "Slurm's job 100_0 is gone without a word" in jobs[0].error


GB = 2**30


def memory_asked(queue: FakeQueue) -> list[str]:
    """Of the arrays in the order in which they were handed in."""
    return ["".join(re.findall(r"--mem=(\S+)", path.read_text())) for path, _ in queue.handed]


@pytest.mark.parametrize("by", ["the kernel", "Slurm"])
def test_a_run_killed_for_memory_is_handed_in_again_with_more(by: str, queue: FakeQueue, tmp_path: Path) -> None:
    """Until Slurm refuses: then it has failed, and the next command asks for as much at once."""
    jobs, steps = jobs_of(tmp_path, 2), 0
    queue.refuses_after = 2
    folder = run_folder(tmp_path, jobs[1].config.run_id)
    folder.mkdir(parents=True)
    peak = replace(holding_of_this_process(1, "its"), born=1, peak_memory=3 * GB)
    (folder / LEASE_FILE).write_text(peak.to_json())

    def dies(name: str, index: int, given: int) -> None:
        job = queue.there.pop((name, index)).job
        if by == "Slurm":
            queue.without_memory[job] = given
        else:
            needed = memory_to_retry(3 * GB, given)
            Told("failed", "out of memory: the kernel killed it", memory=needed).write(
                Array(tmp_path / "slurm" / name).told(index)
            )

    def watch(seen: Sequence[Job]) -> None:
        nonlocal steps
        steps += 1
        if steps == 2:
            ((name, _),) = {key for key in queue.there if key[1] == 1}
            dies(name, 1, GB)
        elif len(queue.handed) == 2 and len(queue.there) == 2:
            assert (jobs[1].state, jobs[1].restarts) == (State.WAITING, 1)
            assert f"it is handed in again, with {jobs[1].memory / 1e9:.1f} GB" in jobs[1].warnings[0]
            dies(queue.handed[1][0].parent.name, 0, 4 * GB)
        elif jobs[1].state.ended:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_launcher("slurm", QUICK | {"mem": "1G"}).run(jobs, 1, SESSION, watch)
    assert memory_asked(queue) == ["1G", "3840M"]  # a quarter more than it had, the double of what it was given
    assert jobs[0].state is State.SUBMITTED
    assert jobs[1].state is State.FAILED
    assert "out of memory before, and Slurm refuses to give it 8.6 GB: sbatch: error" in jobs[1].error
    queue.refuses_after = 99
    hand_in(jobs_of(tmp_path, 3))
    assert memory_asked(queue)[2:] == ["", "8192M"]
    assert Array(queue.handed[-1][0].parent).run_ids == [jobs[1].config.run_id]


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("JobId=7 NumCPUs=2 MinCPUsNode=1 MinMemoryNode=300M MinTmpDiskNode=0", 300 * 2**20),
        ("JobId=7 NumCPUs=2 MinMemoryCPU=1.50G", 3 * GB),
        ("JobId=7 NumCPUs=2 MinMemoryNode=0", 0),
    ],
)
def test_memory_as_slurm_writes_it(text: str, given: int) -> None:
    assert _memory_given(text) == given
    assert (bytes_of("8192"), bytes_of("8G"), bytes_of("2t"), bytes_of("all")) == (8 * GB, 8 * GB, 2**41, 0)


@pytest.mark.parametrize("on_stop", ["leave", "cancel"])
def test_a_command_that_is_stopped_says_what_becomes_of_its_runs(
    on_stop: str, queue: FakeQueue, tmp_path: Path
) -> None:
    jobs = jobs_of(tmp_path, 2)

    def watch(jobs: Sequence[Job]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_launcher("slurm", QUICK | {"on_stop": on_stop}).run(jobs, 1, SESSION, watch)
    assert {job.state for job in jobs} == {State.SUBMITTED if on_stop == "leave" else State.WAITING}
    assert queue.cancelled == ([] if on_stop == "leave" else ["100_0", "100_1"])


def test_a_run_that_another_command_executes_is_left_to_it(queue: FakeQueue, tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, 2)
    with RunWriter(tmp_path, jobs[0].config.run_id, action_repeat=1):
        hand_in(jobs)
    assert [job.state for job in jobs] == [State.INTERRUPTED, State.SUBMITTED]
    assert "not handed in: it is being written by process" in jobs[0].error


def test_a_busy_controller_puts_off_what_is_handed_in_again(
    queue: FakeQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One time-out, just as a starved run was to be handed in again, ended the whole watch."""
    jobs = jobs_of(tmp_path, 2)
    busy, steps = 2, 0

    def array_size() -> int:
        nonlocal busy
        if len(queue.handed) == 1 and busy:
            busy -= 1
            raise QueueError("slurm_load_jobs error: Socket timed out on send/recv operation")
        return queue.most

    def watch(seen: Sequence[Job]) -> None:
        nonlocal steps
        steps += 1
        if steps == 1:
            monkeypatch.setattr(queue, "array_size", array_size)
            ((name, _),) = {key for key in queue.there if key[1] == 1}
            queue.without_memory[queue.there.pop((name, 1)).job] = GB
        elif len(queue.handed) == 2 or steps > 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_launcher("slurm", QUICK).run(jobs, 1, SESSION, watch)
    assert (busy, len(queue.handed)) == (0, 2)
    assert [text for text in jobs[1].warnings if "not handed in again yet: Slurm does not show" in text]
