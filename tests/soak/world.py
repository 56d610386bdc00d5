"""What the soak test disturbs: one run of a recipe as a Makefile, in a folder on a small disk of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from stages.artifacts.opening import read_any_header
from stages.artifacts.verify import verify_one
from stages.runtime.errors import BadInput

ALSEG = f"{sys.executable} -m alseg_cli"
ROOT = Path(__file__).parents[2]
SMALL = """[generator]
name = "scenes"
height = 48
width = 64
images = { train = 16, val = 4, test = 4 }
"""
NETWORK = ("head_width=16", "low_level_width=8", "epochs=6", "batch=4", "checkpoint_seconds=0", "validate_every=3")
ENDINGS = (".h5", ".safetensors")
UNFINISHED = ("*.parts", "*.work", "predictions", ".*.partial", ".*.lock")
ROOM = 256 << 20
PATIENCE = 600  # seconds after which a make that does nothing any more is a failure of the test


@dataclass
class World:
    """A planned run below ``folder``: its Makefile, and the digests that an undisturbed run ended with."""

    folder: Path
    recipe: str
    settings: tuple[str, ...] = ()
    mounted: bool = False
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def prepare(self, rounds: int) -> None:
        """Writes the dataset, the Makefile and a disk for the run, and runs it once undisturbed."""
        shipped = (ROOT / "data" / "datasets" / "scenes.toml").read_text()
        (self.folder / "soak.toml").write_text(shipped.partition("[generator]")[0] + SMALL)
        self.alseg("prepare", "soak.toml", "-o", "soak.h5")
        every = [*(f"train.{name}" for name in NETWORK), *self.settings]
        settings = [word for name in every for word in ("--set", name)]
        plan = ("plan", self.recipe, "soak.h5", "--profile", "scenes", "--rounds", str(rounds), "--run", "run")
        self.alseg(*plan, *settings, "-o", "run.mk")
        self.mount()
        self.finish()
        self.digests = self.found()

    def mount(self) -> None:
        """An empty folder for the run: a small disk of its own where that is allowed."""
        self.unmount()
        if self.run.exists():
            subprocess.run(["rm", "-rf", self.run], check=True)
        self.run.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", self.run]
        self.mounted = subprocess.run(words, capture_output=True, check=False).returncode == 0

    def resize(self, size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", self.run], check=True)

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", self.run], check=True)
            self.mounted = False

    def used(self) -> int:
        """Bytes on the disk of the run."""
        free = os.statvfs(self.run)
        return (free.f_blocks - free.f_bfree) * free.f_frsize

    def alseg(self, *words: str) -> None:
        subprocess.run([*ALSEG.split(), *words], cwd=self.folder, env=environment(), check=True, capture_output=True)

    def start(self, *options: str, preload: Path | None = None) -> subprocess.Popen[bytes]:
        """A make of the run, in a process group of its own, whose output goes to ``log``."""
        variables = environment() | ({"LD_PRELOAD": str(preload)} if preload else {})
        words = ["make", "-f", "run.mk", f"ALSEG={ALSEG}", *options]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                words, cwd=self.folder, env=variables, stdout=log, stderr=log, start_new_session=True
            )

    def make(self, *options: str, preload: Path | None = None) -> int:
        """The exit status of a whole make."""
        process = self.start(*options, preload=preload)
        try:
            return process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise SystemExit(f"make hangs; see {self.folder / 'log'}") from None

    def finish(self) -> None:
        """Runs to the end undisturbed, each stage checked again."""
        for options in ((), ("-B",)):
            if self.make(*options):
                raise SystemExit(f"make {' '.join(options)} failed:\n{self.tail()}")

    def tail(self) -> str:
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-30:])

    def files(self) -> list[Path]:
        """All files that may be read again: artifacts, shards, checkpoints and kept predictions."""
        return sorted(
            path for path in self.run.rglob("*") if path.is_file() and (path.suffix in ENDINGS or is_unfinished(path))
        )

    def artifacts(self) -> list[Path]:
        return [path for path in self.files() if not is_unfinished(path)]

    def found(self) -> dict[str, str]:
        """Digest of each artifact by its path in the run."""
        return {str(path.relative_to(self.run)): read_any_header(path).digest for path in self.artifacts()}

    def damaged(self, but: Iterable[Path] = ()) -> list[Path]:
        """Artifacts whose content is not what their digest says, ``but`` those that were damaged on purpose."""
        return [path for path in self.artifacts() if path not in but and faults_of(path)]

    def leftovers(self) -> list[Path]:
        return [path for pattern in UNFINISHED for path in self.run.rglob(pattern)]


def is_unfinished(path: Path) -> bool:
    """Whether a file belongs to work under way."""
    return path.parent.suffix in (".parts", ".work") or path.parent.name == "predictions"


def faults_of(path: Path) -> list[str]:
    """What `verify` says against an artifact, staleness aside."""
    try:
        faults, _ = verify_one(path)
    except BadInput as error:
        return error.faults
    return [fault for fault in faults if "stale" not in fault]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
