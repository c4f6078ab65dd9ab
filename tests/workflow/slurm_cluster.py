"""A real SLURM on this machine: a controller and one node with two GPUs that are device files without a device.

It lives in namespaces of its own (mounts, processes, network, host name). There it has /etc/slurm/slurm.conf, which is
the only place where SLURM's commands inside a job look, and whatever port it likes; outside nothing is written beyond
its folder, and the end of its first process is the end of all of them.
"""

import contextlib
import fcntl
import importlib.util
import os
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this file is run by itself, too

from tests.workflow.conftest import PATIENCE

NODE = "node0"
CARDS = {"0": "GPU-fake-0", "1": "GPU-fake-1"}  # index, as CUDA_VISIBLE_DEVICES has it -> UUID
LIFETIME = 2 * PATIENCE  # seconds after which it ends, whatever happens to the tests
ETC = Path("/etc/slurm")
TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
NAMESPACES = ("--mount", "--pid", "--net", "--uts")

SLURM_CONF = """
ClusterName=loopback
SlurmctldHost={node}(127.0.0.1)
AuthType=auth/munge
# cred_expire is also how long a requeued job waits before it may start again.
AuthInfo=socket={folder}/munge/socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
# No cgroups, no accounting: nothing that a container lacks.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
# Looks for jobs that can start each second, not each minute.
SchedulerParameters=sched_interval=1
GresTypes=gpu
EnforcePartLimits=ALL
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={node} NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000 Gres=gpu:2
PartitionName=gpu Nodes={node} Default=YES MaxTime=1-0 State=UP
"""


def unavailable() -> str | None:
    """Why no cluster can be started here; None where it can."""
    if os.geteuid() != 0:
        return "SLURM is started by root only"
    missing = [tool for tool in (*TOOLS, "unshare", "nsenter") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not found: apt-get install slurm-wlm munge"
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        return "snakemake-executor-plugin-slurm is not installed: pip install '.[slurm]'"
    if not ETC.is_dir():
        return f"{ETC} is missing"
    tried = subprocess.run(["unshare", *NAMESPACES, "--fork", "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return f"namespaces are not permitted here: {' '.join(tried.stderr.split())}"
    return None


class Cluster:
    """A running cluster; `with Cluster(folder) as cluster`.

    Args:
        folder: where configuration, state and logs go; its path must be short enough for a socket's name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.space = ""  # the name of its namespace of processes

    def __enter__(self) -> "Cluster":
        command = ["unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc", sys.executable, __file__]
        log = open(self.folder / "init.log", "w")
        # Ends when its standard input does, also by the death of this process.
        self.process = subprocess.Popen([*command, self.folder], stdin=subprocess.PIPE, stdout=log, stderr=log)
        log.close()
        try:
            self._wait("its first process", lambda: self._children(self.process.pid))
            (self.first,) = self._children(self.process.pid)
            self.space = os.readlink(f"/proc/{self.first}/ns/pid")
            self._wait("the controller", lambda: self.node_state() is not None)
            self._wait("the node", lambda: self.node_state() == "idle")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        # Its first process went with it, and that takes all others along.
        deadline = time.monotonic() + PATIENCE
        while self.space and any(True for _ in self.processes()):
            assert time.monotonic() < deadline, f"left behind: {[each.words for each in self.processes()]}"
            time.sleep(0.05)

    def command(self, *words: str | Path, cwd: Path | None = None) -> list[str]:
        """The command line that runs a command inside."""
        enter = ["nsenter", "--target", str(self.first), *NAMESPACES]
        return [*enter, "env", "-C", str(cwd or self.folder), *map(str, words)]

    def run(self, *words: str | Path, **options: Any) -> str:
        """Runs a command inside; returns what it prints."""
        options |= {"capture_output": True, "text": True, "timeout": PATIENCE}
        told = subprocess.run(self.command(*words), check=False, **options)
        assert told.returncode == 0, f"{words}: {told.stderr}"
        return told.stdout

    def environment(self) -> dict[str, str]:
        """In which an `nvidia-smi` knows the two cards, and leases are this cluster's own."""
        return os.environ | {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "SAFMN_LEASE_DIR": str(self.folder / "lease"),
            # The cards are made up. Jobs lease them and then compute on the CPU, which is refused outside of this test.
            "PYTHONPATH": f"{Path(__file__).resolve().parents[2]}:{self.folder / 'bin'}",
        }

    def job_state(self, job: str) -> str:
        """As `squeue` says, e.g. RUNNING, FAILED, TIMEOUT."""
        return self.run("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T").strip()

    def shorten(self, job: str) -> None:
        """Lets a running job's time end in one to two minutes from now."""
        began = self.run("squeue", "--noheader", f"--jobs={job}", "--format=%S").strip()
        minutes = int((datetime.now() - datetime.fromisoformat(began)).total_seconds() / 60) + 2
        self.run("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")

    def node_state(self) -> str | None:
        """As `sinfo` says, e.g. idle, mixed, down; None where there is no answer."""
        command = self.command("sinfo", "--noheader", "--format=%T")
        told = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        return told.stdout.strip() or None

    def processes(self) -> Iterator["Process"]:
        """All processes inside, jobs' included."""
        for folder in Path("/proc").glob("[0-9]*"):
            # Processes end while one looks.
            with contextlib.suppress(OSError):
                if os.readlink(folder / "ns/pid") == self.space:
                    yield Process(folder)

    def crash_node(self) -> None:
        """The node loses its power, jobs and all; it is noticed, and boots again."""
        victims = [each for each in self.processes() if each.name in ("slurmd", "slurmstepd") or each.job is not None]
        for process in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        # SLURM itself would notice after SlurmdTimeout.
        self.run("scontrol", "update", f"NodeName={NODE}", "State=DOWN", "Reason=power")
        self.run("slurmd", "-b")
        self._wait("the node", lambda: self.node_state() in ("idle", "mixed", "allocated"))

    def logs(self) -> str:
        """The last lines of every daemon."""
        tails = (file.read_text(errors="replace")[-2000:] for file in sorted(self.folder.glob("*.log")))
        return "\n---\n".join(tails)

    def _wait(self, what: str, done: Any) -> None:
        deadline = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"SLURM: {what} did not come up\n{self.logs()}")
            time.sleep(0.1)

    @staticmethod
    def _children(pid: int) -> list[int]:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Process:
    """A process inside the cluster, with its number outside.

    Args:
        folder: the one in /proc.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pid = int(folder.name)
        self.words = (folder / "cmdline").read_text(errors="replace").split("\0")[:-1]
        self.name = (folder / "comm").read_text().strip()
        pairs = (entry.partition("=") for entry in (folder / "environ").read_text(errors="replace").split("\0"))
        self.environment = {name: value for name, _, value in pairs}
        self.job = self.environment.get("SLURM_JOB_ID")

    def cwd(self) -> Path:
        return Path(os.readlink(self.folder / "cwd"))

    def open_files(self) -> list[Path]:
        found = []
        for link in (self.folder / "fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(Path(os.readlink(link)))
        return found


# --- inside: the first process ---


def _configure(folder: Path) -> None:
    for name in ("etc", "state", "spool", "munge", "bin"):
        (folder / name).mkdir(mode=0o700)
    (folder / "etc/slurm.conf").write_text(SLURM_CONF.format(node=NODE, folder=folder))
    for index in CARDS:
        # A character device, as SLURM wants it, which is /dev/null.
        os.mknod(folder / f"gpu{index}", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (folder / "etc/gres.conf").write_text(f"NodeName={NODE} Name=gpu File={folder}/gpu[0-1]\n")
    (folder / "munge/key").write_bytes(os.urandom(1024))
    (folder / "munge/key").chmod(0o600)
    smi = folder / "bin/nvidia-smi"
    lines = "".join(f"{index}, {card}\\n" for index, card in CARDS.items())
    smi.write_text(f"#!/bin/sh\ncase $1 in --query-gpu=index,uuid) printf '{lines}' ;; *) exit 1 ;; esac\n")
    smi.chmod(0o755)
    (folder / "bin/sitecustomize.py").write_text(
        "try:\n"
        "    from safmn.device import lease\n"
        "    lease.require_usable = lambda *_, **__: None\n"
        "except ImportError:\n"
        "    pass\n"
    )


def _loopback() -> None:
    """Starts the loopback interface, with a second address: names are not looked up where there is 127.0.0.1 alone."""
    set_address, set_flags, up = 0x8916, 0x8914, 0x41
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, set_flags, struct.pack("16sh14x", b"lo", up))
        address = struct.pack("16sHH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton("10.0.0.1"))
        fcntl.ioctl(handle, set_address, address)


def _first(folder: Path) -> None:
    _configure(folder)
    socket.sethostname(NODE)
    _loopback()
    subprocess.run(["mount", "--bind", folder / "etc", ETC], check=True)
    munge = folder / "munge"
    options = {"socket": "socket", "key-file": "key", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}
    subprocess.run(["munged", "--force", *(f"--{name}={munge / file}" for name, file in options.items())], check=True)
    subprocess.run(["slurmctld", "-c"], check=True)
    subprocess.run(["slurmd", "-c"], check=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans become children of the first process
    select.select([sys.stdin], [], [], LIFETIME)


if __name__ == "__main__":
    _first(Path(sys.argv[1]))
