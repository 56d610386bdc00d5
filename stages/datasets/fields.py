"""The types of values in a dataset description."""

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from stages.datasets.patterns import field_names, fill


def _check_relative(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise ValueError(f"{path!r} is not a path below the root. Write it relative to --root and without '..'.")
    return path


def _check_braces(pattern: str) -> str:
    _check_relative(pattern)
    if {"{", "}"} & set(fill(pattern, {})):
        raise ValueError(f"{pattern!r} has a brace outside of a field. Write fields as {{name}}.")
    return pattern


def _check_pattern(pattern: str) -> str:
    _check_braces(pattern)
    if "id" not in field_names(pattern):
        raise ValueError(
            f"{pattern!r} has no {{id}} field. Write {{id}} for the part of the path that differs between images."
        )
    return pattern


def _check_rising(pair: tuple[float, float]) -> tuple[float, float]:
    low, high = pair
    if not low < high:
        raise ValueError(f"[{low:g}, {high:g}] does not rise. Write the lower value first.")
    return pair


def _one_or_more(check: Callable[[str], str]) -> Callable[[Any], str | tuple[str, ...]]:
    """A validator of one string, or of a list of at least one, each of which ``check`` accepts."""

    def validate(value: Any) -> str | tuple[str, ...]:
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list | tuple) or not listed or not all(isinstance(each, str) for each in listed):
            raise ValueError(f"{value!r} is neither a path nor a list of paths. Write one of them.")
        checked = tuple(map(check, listed))
        return checked[0] if isinstance(value, str) else checked

    return validate


Byte = Annotated[int, Field(strict=True, ge=0, le=255)]
Color = tuple[Byte, Byte, Byte]
MaskValue = Annotated[int, Field(strict=True, ge=0, le=65535)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(gt=0, le=1)]
Band = Annotated[int, Field(strict=True, ge=1)]
Pair = Annotated[tuple[float, float], AfterValidator(_check_rising)]
Percentile = Annotated[float, Field(ge=0, le=100)]
Share = Annotated[float, Field(strict=True, gt=0, le=1)]
RelativePath = Annotated[str, AfterValidator(_check_relative)]
Pattern = Annotated[str, AfterValidator(_check_pattern)]
MaskPatterns = Annotated[str | tuple[str, ...], BeforeValidator(_one_or_more(_check_braces))]
RelativePaths = Annotated[str | tuple[str, ...], BeforeValidator(_one_or_more(_check_relative))]
Count = Annotated[int, Field(strict=True, ge=1)]
Name = Annotated[str, Field(min_length=1)]


class Table(BaseModel):
    """A table of the TOML file."""

    model_config = ConfigDict(frozen=True, extra="forbid")
