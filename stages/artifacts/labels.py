"""What a network learns from: a ledger, or pseudo-labels made from one."""

from pathlib import Path

from stages.artifacts.annotations import Annotations
from stages.artifacts.opening import open_any
from stages.artifacts.pseudo_labels import PseudoLabels
from stages.runtime.errors import BadInput

Labels = Annotations | PseudoLabels  # both have labelled_ids, label_map and cost


def open_labels(path: Path) -> Labels:
    """The labels in ``path``; BadInput when it holds another kind of artifact."""
    artifact = open_any(path)
    if not isinstance(artifact, Labels):
        raise BadInput(f"{path} holds {artifact.header.kind}, not annotations or pseudo_labels.")
    return artifact
