"""Parts: functions registered under a name by a decorator, shipped with alseg or provided by a plug-in.

Each kind of part has one registry here. Its shipped parts are the modules of one package, a file each, imported when
the registry is first used; they import torch and cv2 inside their functions, so listing parts is fast. A plug-in is
an installed package with an entry point in the registry's group, or a Python file loaded by `load_plugin`.
"""

import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from stages.runtime.errors import BadInput
from stages.runtime.spelling import did_you_mean

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Origin:
    """The plug-in that provides a part: name, version ("" for a file), source file and the SHA-256 of that file."""

    name: str
    version: str
    file: Path
    digest: str


@dataclass(frozen=True)
class Part:
    """A registered function, its settings model (None: no settings), and the facts that its decorator declares."""

    kind: str
    name: str
    function: Callable[..., Any]
    settings: type[Any] | None
    facts: Mapping[str, Any]
    origin: Origin | None

    @property
    def about(self) -> str:
        """The first sentence of the function's docstring."""
        text = inspect.getdoc(self.function) or ""
        return " ".join(text.split("\n\n")[0].split())

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.function(*arguments, **named)


class Registry:
    """The parts of one kind by name.

    ``package`` holds the shipped ones, ``facts`` are the keywords that the decorator takes: name -> default
    (`REQUIRED`: no default).
    """

    registrations = 0
    """How often a part was registered, in all registries."""

    def __init__(self, kind: str, package: str, facts: Mapping[str, Any] | None = None):
        self.kind, self.package, self.facts = kind, package, dict(facts or {})
        self.group = f"alseg.{kind}{'es' if kind.endswith('s') else 's'}"
        self.found: dict[str, Part] = {}
        self.loaded = False

    def register(self, name: str, *, settings: type[Any] | None = None, **facts: Any) -> Callable[[Function], Function]:
        """Decorator: registers a function as the part ``name``.

        ``settings`` is a subclass of `stages.settings.base.PartSettings` with the settings that only this part reads.
        Raises BadInput for a name that is taken, and for unknown or missing ``facts``.
        """
        unknown = sorted(facts.keys() - self.facts.keys())
        missing = sorted(key for key, value in self.facts.items() if value is REQUIRED and key not in facts)
        if unknown or missing:
            what = f"unknown keyword {', '.join(unknown)}" if unknown else f"missing keyword {', '.join(missing)}"
            raise BadInput(f"{self.kind} {name!r}: {what}; a {self.kind} declares {', '.join(self.facts)}.")

        def decorate(function: Function) -> Function:
            origin = origin_of(function)
            taken = self.found.get(name)
            if taken is not None and taken.function.__module__ != function.__module__:
                raise BadInput(
                    f"The {self.kind} {name!r} is registered twice; rename the one in {function.__module__}."
                )
            self.found[name] = Part(self.kind, name, function, settings, self.facts | facts, origin)
            Registry.registrations += 1
            return function

        return decorate

    def load(self) -> None:
        """Imports the shipped parts and those of installed plug-ins, once."""
        if self.loaded:
            return
        self.loaded = True
        try:
            self.import_parts()
        except BaseException:
            self.loaded = False  # the next use then raises the same error instead of seeing half of the parts
            raise

    def import_parts(self) -> None:
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        for entry in importlib.metadata.entry_points(group=self.group):
            try:
                entry.load()
            except Exception as error:
                raise BadInput(
                    f"The plug-in {entry.value} cannot be imported: {error}. Update or remove it."
                ) from error

    def names(self) -> list[str]:
        """All names, sorted."""
        self.load()
        return sorted(self.found)

    def parts(self) -> list[Part]:
        return [self[name] for name in self.names()]

    def __contains__(self, name: object) -> bool:
        self.load()
        return name in self.found

    def __getitem__(self, name: str) -> Part:
        """The part called ``name``; BadInput names the closest known ones."""
        self.load()
        if name not in self.found:
            raise BadInput(self.unknown(name))
        return self.found[name]

    def unknown(self, name: str, choices: Sequence[str] | None = None) -> str:
        """The sentence for a ``name`` that is not registered; ``choices`` are the names if there are others too."""
        known = self.names() if choices is None else list(choices)
        listed = f"Choose one of {', '.join(known)}, or pass --plugin."
        return " ".join(filter(None, [f"Unknown {self.kind} {name!r}.", did_you_mean(name, known), listed]))


class Selection(Registry):
    """The parts of ``whole`` that ``fits`` accepts, for a setting that names one of them."""

    def __init__(self, whole: Registry, fits: Callable[[Part], bool]):
        super().__init__(whole.kind, whole.package, whole.facts)
        self.whole, self.fits = whole, fits

    def names(self) -> list[str]:
        return [part.name for part in self.whole.parts() if self.fits(part)]

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __getitem__(self, name: str) -> Part:
        if name not in self:
            raise BadInput(self.unknown(name))
        return self.whole[name]


REQUIRED = object()
"""Default of a fact that each decorator must declare."""

PLUGINS: dict[Path, str] = {}
"""Files loaded by `load_plugin`, and the names of their modules."""


def load_plugin(path: Path | str) -> None:
    """Runs a Python file that registers parts; a file is run once.

    BadInput if the file does not exist, is not Python, or raises.
    """
    file = Path(path).resolve()
    if file in PLUGINS:
        return
    if file.suffix != ".py" or not file.is_file():
        raise BadInput(f"There is no plug-in {path}; pass the path of a Python file.")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    name = f"alseg_plugin_{file.stem}_{digest[:12]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BadInput:
        raise
    except Exception as error:
        del sys.modules[name]
        raise BadInput(f"The plug-in {path} cannot be loaded: {type(error).__name__}: {error}. Correct it.") from error
    PLUGINS[file] = name


def origin_of(function: Callable[..., Any]) -> Origin | None:
    """Where a registered function comes from; None for parts shipped with alseg."""
    module = function.__module__
    if module.partition(".")[0] == "stages":
        return None
    file = Path(inspect.getsourcefile(function) or module)
    if not file.is_file():  # a notebook cell, whose file name differs in each session
        return Origin(function.__name__, "", Path(module), hashlib.sha256(source_of(function).encode()).hexdigest())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    package = module.partition(".")[0]
    owners = importlib.metadata.packages_distributions().get(package, [])
    if not owners:
        return Origin(file.stem, "", file, digest)
    return Origin(owners[0], importlib.metadata.version(owners[0]), file, digest)


def source_of(function: Callable[..., Any]) -> str:
    """Source text of a function; "" if it is not available."""
    try:
        return inspect.getsource(function)
    except OSError:
        return ""


MEASURES = Registry("measure", "stages.scoring.measures", {"of": "classes", "passes": False})
"""Uncertainty of a pixel. of: classes (exclusive) or presence; passes: whether it reads several stochastic passes."""

RULES = Registry(
    "rule",
    "stages.selecting.rules",
    {"units": REQUIRED, "needs": (), "budget": True, "orders": False, "describe": None, "reads": None},
)
"""From scores to queries. units: of candidates; needs: what else it reads of them; budget: whether it takes one;
orders: whether its order is the rank order; describe: what the header records about its choice; reads: how many of the
highest scores it reads, from candidates, budget and settings (None: all)."""

OBJECTIVES = Registry(
    "objective",
    "stages.training.objectives",
    {"labels": REQUIRED, "predicts": "pixels", "start": False, "support": False, "wraps": "", "features": False},
)
"""What training minimises. labels: what it learns from (maps, class-sets, masks, image-classes); predicts: pixels or
images; start: needs a model to start from; support: trains support heads beside the network of that model; wraps: the
setting that names another objective, which reads the labels instead; features: its learner learns from the features of
a frozen backbone as from images."""

# The objectives that only learn labels of pixels, sparse or dense, which another objective can wrap
LABEL_OBJECTIVES = Selection(
    OBJECTIVES,
    lambda part: (
        part.facts["predicts"] == "pixels"
        and part.facts["labels"] in ("maps", "class-sets")
        and not (part.facts["start"] or part.facts["support"] or part.facts["wraps"])
    ),
)
LOSSES = Registry("loss", "stages.training.losses", {})
"""Losses for labels with one class per pixel."""

CUTTERS = Registry("cutter", "stages.regions.cutters", {"reads": "image"})
"""Ways to cut an image into regions. reads: image or mask (simulation only)."""

ARCHITECTURES = Registry("architecture", "stages.networks.architectures", {"predicts": "pixels", "support": False})
"""Networks. predicts: pixels or images; support: whether support heads can be added."""

REGISTRIES = {registry.kind: registry for registry in (MEASURES, RULES, OBJECTIVES, LOSSES, CUTTERS, ARCHITECTURES)}
