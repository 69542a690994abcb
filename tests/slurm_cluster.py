"""A real Slurm of two nodes on this machine, for tests: Debian's packages unpacked into a folder, nothing installed."""

from __future__ import annotations

import ctypes
import getpass
import os
import platform
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = (
    "libhwloc15", "liblua5.1-0", "libmunge2", "slurm-wlm-basic-plugins", "slurm-client", "slurmctld", "slurmd"
)  # fmt: skip
KILL_WAIT_S = 10  # between SIGTERM and SIGKILL
NODES = ("n0", "n1")
CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
# A requeued job waits until its credential has expired: two minutes, unless told otherwise.
AuthInfo=cred_expire=5
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
SlurmctldDebug=debug
SlurmdDebug=debug
PluginDir={plugins}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=100000,batch_sched_delay=0,{scheduler}
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait={kill_wait}
MaxArraySize={array_size}
SlurmctldPort={ports[0]}
SlurmdPort={ports[0]}
SlurmctldParameters=enable_configless,preempt_send_user_signal
SlurmdParameters=config_overrides
SlurmdTimeout=30
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
OverTimeLimit=0
NodeName=n0 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=4000
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=4000
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=10
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def _end_with_this_process() -> None:
    """A test that is killed leaves no daemons."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class Unavailable(Exception):
    """Why there is no Slurm here."""


@dataclass
class Cluster:
    """A running cluster; `env` makes its commands (sbatch, squeue, ...) speak to it."""

    root: Path
    folder: Path
    array_size: int = 1001
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        lib = self.root / "usr/lib" / f"{platform.machine()}-linux-gnu"
        return {
            "PATH": f"{self.root}/usr/bin{os.pathsep}{os.environ['PATH']}",
            "LD_LIBRARY_PATH": f"{lib}/slurm-wlm{os.pathsep}{lib}",
            "SLURM_CONF": f"{self.folder}/slurm.conf",
        }

    def start(self, patience_s: float = 60) -> None:
        """Returns when both nodes are idle. Raises Unavailable."""
        for name in ("state", "log", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        plugins = next(self.root.glob("usr/lib/*/slurm-wlm"))
        conf = CONF.format(
            host=socket.gethostname().split(".")[0],
            user=getpass.getuser(),
            folder=self.folder,
            plugins=plugins,
            kill_wait=KILL_WAIT_S,
            array_size=self.array_size,
            ports=free_ports(3),
            scheduler="preempt_youngest_first",
        )
        (self.folder / "slurm.conf").write_text(conf)
        self._spawn("slurmctld", "slurmctld-wlm", "-D", "-c")
        for node in NODES:
            self.start_node(node)
        deadline = time.monotonic() + patience_s
        while self("sinfo", "-h", "-N", "-p", "low", "-o", "%t", check=False).split() != ["idle"] * len(NODES):
            dead = [name for name, process in self.processes.items() if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                raise Unavailable(f"{dead or 'nodes'} did not come up: {self.log_tail()}")
            time.sleep(0.2)

    def start_node(self, node: str) -> None:
        self._spawn(node, "slurmd-wlm", "-D", "-N", node, "-d", f"{self.root}/usr/sbin/slurmstepd-wlm")

    def _spawn(self, name: str, program: str, *arguments: str) -> None:
        with (self.folder / "log" / f"{name}.out").open("ab") as out:
            self.processes[name] = subprocess.Popen(
                [f"{self.root}/usr/sbin/{program}", *arguments],
                env=os.environ | self.env,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=_end_with_this_process,
            )

    def __call__(self, *command: str, check: bool = True) -> str:
        """What a command of Slurm prints."""
        env = os.environ | self.env
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def log_tail(self) -> str:
        logs = [*(self.folder / "log").iterdir()]
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in sorted(logs))

    def stop(self) -> None:
        self("scancel", "-u", getpass.getuser(), check=False)
        deadline = time.monotonic() + KILL_WAIT_S + 10
        while self("squeue", "-h", check=False).strip() and time.monotonic() < deadline:
            time.sleep(0.2)
        for process in reversed(self.processes.values()):
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def unpacked(folder: Path) -> Path:
    """The root of the unpacked packages: in `folder`, fetched if they are not there yet. Raises Unavailable."""
    root = folder / "root"
    if (root / "usr/bin/sbatch").exists():
        return root
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise Unavailable("no Slurm here: this is no Debian, whose packages the tests unpack")
    folder.mkdir(parents=True, exist_ok=True)
    for command in (["apt-get", "-q", "update"], ["apt-get", "-q", "download", *PACKAGES]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"no Slurm here: {' '.join(command[:3])} failed: {done.stderr.strip()[-300:]}")
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(root)], check=True)
    return root


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
