"""The image of the dataset that a file of another tool belongs to."""

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from stages.runtime.errors import BadInput

UPLOADED = re.compile(r"[0-9a-f]{8}-")  # prefix that Label Studio adds to the names of uploaded files


def known_names(ids: Iterable[str]) -> dict[str, str | None]:
    """Name -> id: the ids themselves, and without leading folders; None if several images have that name."""
    every = list(ids)
    names: dict[str, str | None] = {}
    for image in every:
        for shorter in endings(image)[1:]:
            names[shorter] = None if shorter in names else image
    return names | {image: image for image in every}


def image_of(name: str, known: Mapping[str, str | None], where: str) -> str:
    """The id of the image that the file ``name`` belongs to; its extension, and folders that no id has, are ignored.

    ``known`` is from `known_names`, ``where`` is the source of the name. BadInput if no image fits, or several do.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    for candidate in names_in(path):
        if candidate in known:
            found = known[candidate]
            if found is None:
                raise BadInput(f"{where}: several images are called {path.name}. Keep the folders in its name.")
            return found
    raise BadInput(
        f"{where}: {path.name or repr(name)} is not an image of the dataset. Name the files like the images, such as "
        f"{min(known)}.png."
    )


def names_in(path: PurePosixPath) -> list[str]:
    """What an image could be called if ``path`` is its file, the likeliest first."""
    names = [*endings(str(path.with_suffix(""))), *endings(str(path))] if path.name else []
    return [*names, UPLOADED.sub("", path.stem, count=1)]


def is_image(name: str, known: Mapping[str, str | None]) -> bool:
    """Whether a file ``name`` belongs to an image, or to one of several."""
    return any(candidate in known for candidate in names_in(PurePosixPath(name.replace("\\", "/"))))


def endings(name: str) -> list[str]:
    """``name``, then without its first folder, without its first two, ..."""
    parts = name.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def first_image_of(names: Iterable[str], known: Mapping[str, str | None], where: str) -> str:
    """The image that the first of ``names`` belongs to that belongs to any, as `image_of`; BadInput about the first."""
    wrong: list[BadInput] = []
    for name in names:
        try:
            return image_of(name, known, where)
        except BadInput as error:
            wrong.append(error)
    raise wrong[0]
