"""A SLURM of one node on the loopback, in one folder, stopped by the process numbers that it wrote there."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
READY_S = 60.0
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={name}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=requeue_setup_env_fail,batch_sched_delay=0,sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobRequeue=1
MinJobAge=600
KillWait=20
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={name} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=low Nodes={name} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=high Nodes={name} MaxTime=INFINITE State=UP PriorityTier=10
"""


@dataclass(frozen=True)
class Scheduler:
    """A running SLURM. `environment` makes its programs talk to it."""

    folder: Path
    environment: dict[str, str]

    def ask(self, *words: str) -> str:
        """What a program of it prints; an error of it fails the test."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def states(self, job: str) -> dict[str, str]:
        """State of each task of an array (or of a job) by its number, `12_3`."""
        lines = self.ask("squeue", "--noheader", "--array", "--states=all", f"--jobs={job}", "--format=%i %T")
        return dict(line.split() for line in lines.splitlines())

    def signal(self, name: str, task: str) -> None:
        """Sends a signal to the steps of a task. scancel repeats it for a minute where the task left by it."""
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(["scancel", f"--signal={name}", task], env=self.environment, timeout=4, check=True)

    def release(self, job: str) -> None:
        """A job that was put back waits for two minutes; begin it now."""
        for task, state in self.states(job).items():
            if state == "PENDING" and "BeginTime" in self.ask("squeue", "-h", "-r", f"-j{task}", "-o", "%r"):
                time.sleep(2.5)  # the node refuses a task that ended there in the same second
                self.ask("scontrol", "update", f"JobId={task}", "StartTime=now")

    def finish(self, job: str, seconds: float = 150.0) -> dict[str, str]:
        """Waits until nothing of the job waits or runs; the states of its tasks."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.release(job)
            states = self.states(job)
            if not set(states.values()) & {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED"}:
                return states
            time.sleep(0.3)
        raise AssertionError(f"job {job} after {seconds} s: {self.states(job)}\n{self.log()}")

    def lose_node(self, pid: int) -> None:
        """The node is gone, and the process with it; then the node is back."""
        name = socket.gethostname().split(".")[0]
        self.ask("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=lost")
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        time.sleep(8)  # of the lost task nothing runs any more; the daemon on the node has answered again
        self.wait("idle", "mixed")

    def log(self) -> str:
        """The last lines of both daemons."""
        return "\n".join(
            line for name in ("slurmctld", "slurmd")
            for line in (self.folder / f"log/{name}.log").read_text().splitlines()[-15:]
        )  # fmt: skip

    def wait(self, *states: str) -> None:
        """Until the node is in one of these states."""
        end = time.monotonic() + READY_S
        while time.monotonic() < end:
            found = subprocess.run(
                ["sinfo", "-h", "-N", "-o", "%T"], env=self.environment, capture_output=True, text=True, check=False
            ).stdout.split()
            if found and found[0] in states:
                return
            time.sleep(0.2)
        raise AssertionError(f"SLURM's node: found {found}; allowed is {states}\n{self.log()}")

    def stop(self) -> None:
        """Cancels all jobs, waits until they have ended, then ends both daemons by their own process numbers."""
        subprocess.run(["scancel", "--me"], env=self.environment, capture_output=True, timeout=60, check=False)
        end = time.monotonic() + READY_S
        while time.monotonic() < end and self.ask("squeue", "--noheader", "--states=RUNNING,COMPLETING").strip():
            time.sleep(0.3)
        for name in ("slurmd", "slurmctld"):
            place = self.folder / f"run/{name}.pid"
            if place.is_file():
                _end(int(place.read_text()))


def start(folder: Path) -> Scheduler:
    """Starts it below `folder`; skips where its programs are not installed or may not run."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"{', '.join(missing)} not installed; see CONTRIBUTING.md")
    if os.geteuid():
        pytest.skip("SLURM's daemons are started by root alone")
    for part in ("run", "log", "state", "spool"):
        (folder / part).mkdir(parents=True)
    place = folder / "slurm.conf"
    place.write_text(CONFIGURATION.format(name=socket.gethostname().split(".")[0], ports=_ports(), folder=folder))
    left = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
    running = Scheduler(folder, {**left, "SLURM_CONF": str(place)})
    for name in ("slurmctld", "slurmd"):
        running.ask(name, "-f", str(place), "-c")
    try:
        running.wait("idle")
    except BaseException:
        running.stop()
        raise
    return running


def _ports() -> list[int]:
    """Two ports of the loopback that nobody listens on."""
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in (one, other)]


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
        for _ in range(50):
            time.sleep(0.1)
            os.kill(pid, 0)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
