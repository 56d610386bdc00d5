"""A real Slurm of one node on this machine, for the time of the tests."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

CONFIGURATION = Path("/etc/slurm/slurm.conf")  # jobs do not inherit SLURM_CONF
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "squeue")


def lacks() -> str:
    """What keeps Slurm from being started here; empty: nothing."""
    missing = [name for name in PROGRAMS if shutil.which(name, path="/usr/sbin:/usr/bin") is None]
    if missing:
        return f"needs Slurm; install slurm-wlm and munge ({', '.join(missing)} not found)"
    if os.geteuid() != 0:
        return "needs root, to start Slurm"
    if CONFIGURATION.exists() and "ClusterName=alseg-tests" not in CONFIGURATION.read_text():
        return f"another Slurm is configured in {CONFIGURATION}"
    return ""


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of logs of a running Slurm; skipped where there is none, but never where ALSEG_SLURM=required."""
    if reason := lacks():
        if os.environ.get("ALSEG_SLURM") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)
    subprocess.run(["install", "-d", "-o", "munge", "-g", "munge", "-m", "755", "/run/munge"], check=True)
    running = [subprocess.Popen(["su", "-s", "/bin/sh", "munge", "-c", "exec /usr/sbin/munged --foreground --force"])]
    CONFIGURATION.parent.mkdir(exist_ok=True)
    CONFIGURATION.write_text(configuration(folder))
    for program in ("slurmctld", "slurmd"):
        with open(folder / f"{program}.out", "wb") as out:
            running.append(subprocess.Popen([f"/usr/sbin/{program}", "-D"], stdout=out, stderr=out))
    try:
        wait_until_idle(folder)
        yield folder
    finally:
        for process in reversed(running):
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        CONFIGURATION.unlink()


def configuration(folder: Path) -> str:
    """slurm.conf of a cluster without accounting whose only node is this machine."""
    host = socket.gethostname()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (1 << 20)
    return f"""ClusterName=alseg-tests
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} RealMemory={memory} State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def wait_until_idle(folder: Path) -> None:
    for _ in range(60):
        shown = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True)
        if shown.stdout.strip() == "idle":
            return
        time.sleep(1)
    logs = "".join(path.read_text()[-2000:] for path in folder.glob("*.out"))
    pytest.fail(f"Slurm did not start: {shown.stdout}{shown.stderr}\n{logs}")


@pytest.fixture(scope="session")
def program() -> str:
    """The program as jobs call it."""
    return f"{sys.executable} -m alseg_cli"
