"""Event files for TensorBoard: the columns of a training's history, an epoch at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from stages.runtime.errors import BadInput

History = Sequence[Mapping[str, float]]
FILES = "events.out.tfevents.*"  # as TensorBoard finds them
PLACE = ("epoch", "step")  # columns that say when, and are no measurement


def events_folder(output: Path) -> Path:
    """Where the event files of the model ``output`` lie: not beside it, so that TensorBoard shows one run per model."""
    return output.parent / "events" / output.stem


@contextmanager
def event_writer(folder: Path) -> Iterator[Callable[[History], None]]:
    """Yields a function that adds the last row of a history to the event files in ``folder``, at its epoch.

    A training that begins anew removes those of the one before; one that goes on hides the epochs that it repeats.

    Raises:
        BadInput: the package tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise BadInput(
            f"Event files need the package tensorboard ({error}). Run: pip install 'alseg[tensorboard]', or leave out "
            "--tensorboard."
        ) from error
    opened: list[SummaryWriter] = []

    def write(history: History) -> None:
        row = history[-1]
        epoch = int(row["epoch"])
        if not opened:
            if len(history) == 1:
                for path in folder.glob(FILES):
                    path.unlink(missing_ok=True)
            opened.append(SummaryWriter(str(folder), purge_step=epoch))
        for name, value in row.items():
            if name not in PLACE:
                opened[0].add_scalar(name, value, epoch)
        opened[0].flush()

    try:
        yield write
    finally:
        for writer in opened:
            writer.close()
