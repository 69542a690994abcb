"""What a run's `lease.json` says: who writes the run, where, and how far it is.

Whether a writer lives is judged by its `beat`, which it raises every `period_s`: a reader sees it change, or does not,
by a clock of its own. Times of two machines are never compared.
"""

from __future__ import annotations

import json
import os
import socket
import time
import zlib
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from results.files import is_away, read_bytes
from results.layout import StoreError

LEASE_FILE = "lease.json"
LENGTH_VARIABLE = "COVR_BENCH_LEASE_S"  # seconds without a beat after which another may take a run over
LAUNCHER_VARIABLE, JOB_VARIABLE = "COVR_BENCH_LAUNCHER", "COVR_BENCH_JOB"  # set by launchers, shown by `status`
_LENGTH_S, _LONGEST_S = 60.0, 3600.0
_MOST = 2**63  # no number of a lease comes near
_BEATS = 6  # in a lease's length: five may be late or lost


@dataclass(frozen=True)
class Holding:
    """A lease as it is stored.

    Attributes:
        token: Fencing number; the next writer of the run has a higher one.
        owner: Text that no other lease has.
        host: Name of the machine, for people.
        machine: Boot and process namespace: within it, `pid` means the same process.
        pid, born: Process number, and its start in clock ticks since the boot, which tells it from a later namesake.
        launcher, job: What started it, and what that calls it; "" if nothing said so.
        beat: Changes with every renewal.
        length_s: Seconds without a beat after which another may take over.
        progress: Newest of the run: `phase`, `env_steps`, `env_steps_per_s`, `last_return`; empty before the first.
        peak_memory: Most bytes of RAM the process has had at a time.
    """

    token: int
    owner: str
    host: str = "?"
    machine: str = ""
    pid: int = 0
    born: int = 0
    launcher: str = ""
    job: str = ""
    beat: int = 0
    length_s: float = _LENGTH_S
    progress: dict[str, Any] = field(default_factory=dict)
    peak_memory: int = 0

    @property
    def period_s(self) -> float:
        """Seconds between beats."""
        return self.length_s / _BEATS

    @property
    def state(self) -> tuple[int, str, int]:
        """Differs after every beat, and between writers."""
        return self.token, self.owner, self.beat

    def lives(self) -> bool | None:
        """Whether its process exists; None if it is of another machine, or of a container this one cannot look into."""
        if not self.machine or self.machine != this_machine():
            return None
        return self.born == _born(self.pid) and _process_state(self.pid) not in ("", "Z", "X")

    def frozen(self) -> bool:
        """Whether its process is of this machine and stopped, as by SIGSTOP."""
        return bool(self.lives()) and _process_state(self.pid) in ("T", "t")

    def where(self) -> str:
        """The process in words: `process 17 on node3 (slurm job 99_4)`."""
        by = f" ({self.launcher}{f' job {self.job}' if self.job else ''})" if self.launcher else ""
        return f"process {self.pid} on {self.host}{by}"

    def to_json(self) -> str:
        """The text of a lease file."""
        return json.dumps(asdict(self), default=str)


def holding_of_this_process(token: int, owner: str) -> Holding:
    """A lease of this process, before its first beat."""
    pid = os.getpid()
    return Holding(
        token,
        owner,
        socket.gethostname(),
        this_machine(),
        pid,
        _born(pid),
        os.environ.get(LAUNCHER_VARIABLE, ""),
        os.environ.get(JOB_VARIABLE, ""),
        length_s=lease_length_s(),
    )


def read_lease(folder: str | os.PathLike[str]) -> Holding | None:
    """The lease of a run.

    Args:
        folder: The run's (`run_folder`).

    Returns:
        The lease as stored, by a living writer or not; None if the run is not being written or was left in good order.
        A damaged file, and what is no file, counts as a lease of an unknown machine.

    Raises:
        OSError: The folder is away (`results.files.AWAY`).
    """
    data = b""
    try:
        data = read_bytes(os.path.join(folder, LEASE_FILE))
        return parsed_lease(data)
    except FileNotFoundError:
        return None
    except OSError as error:
        if is_away(error):
            raise
        return Holding(0, f"unreadable {error.errno}")
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return Holding(0, f"damaged {zlib.crc32(data)}")


def parsed_lease(data: bytes) -> Holding:
    """A lease from its text; anything else raises ValueError, TypeError, KeyError, OverflowError or RecursionError."""
    values = json.loads(data)
    if not isinstance(values, dict):
        raise TypeError("no object")
    kinds = {"token": int, "pid": int, "born": int, "beat": int, "length_s": float, "peak_memory": int}
    known = {item.name for item in fields(Holding)}
    given = {key: kinds.get(key, _as_it_is)(value) for key, value in values.items() if key in known}
    for key, value in given.items():
        if isinstance(value, bool) or (key not in kinds and not isinstance(value, dict if key == "progress" else str)):
            raise TypeError(key)
        if isinstance(value, int) and abs(value) >= _MOST:
            raise OverflowError(key)
    length_s = given.get("length_s", _LENGTH_S)
    given["length_s"] = min(length_s, _LONGEST_S) if length_s >= 0 else _LENGTH_S  # NaN is not
    return Holding(**given)


def lease_length_s() -> float:
    """Seconds without a beat after which others may take over what this process writes: COVR_BENCH_LEASE_S, or 60.

    Raises:
        StoreError: The variable is no number above 0 and up to 3600.
    """
    text = os.environ.get(LENGTH_VARIABLE, "") or str(_LENGTH_S)
    try:
        length = float(text)
    except ValueError:
        length = 0.0
    if not 0 < length <= _LONGEST_S:
        raise StoreError(f"{LENGTH_VARIABLE}={text!r} should be seconds, above 0 and up to {_LONGEST_S:.0f}")
    return length


def clock() -> float:
    """Seconds by a clock that nobody sets, and that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def this_machine() -> str:
    """This boot of this machine, and the process namespace this process is in."""
    try:
        return f"{_boot()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return _boot()


def _stat(pid: int) -> list[str]:
    """What `/proc/PID/stat` has after the process's name; empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().decode("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return []


def _born(pid: int) -> int:
    return int(stat[19]) if (stat := _stat(pid)) else 0


def _process_state(pid: int) -> str:
    return stat[0] if (stat := _stat(pid)) else ""


def peak_memory() -> int:
    """Most bytes of RAM that this process has had at a time; 0 if the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def _as_it_is(value: Any) -> Any:
    return value
