"""What can be wrong with a database. Every message says what, where and what to do."""

from __future__ import annotations

from pathlib import Path


class DatabaseError(Exception):
    """Anything wrong with a posterior database or with what it holds."""


class LayerNotFound(DatabaseError):
    """A directory given as a layer is not there, or is no posterior database."""


class PosteriorNotFound(DatabaseError):
    """No layer has a posterior, nor an alias, of this name."""


class MissingReference(DatabaseError):
    """The posterior has no reference draws in any layer."""


class MissingProgram(DatabaseError):
    """The posterior's model has no Stan program in any layer."""


class MissingData(DatabaseError):
    """The posterior's data set is in no layer."""


class UnmappedReference(DatabaseError):
    """Reference draws that cannot be brought to a model's unconstrained scale."""


class CorruptDatabase(DatabaseError):
    """A file of a database cannot be used as it is.

    Attributes
    ----------
    path : the file
    reason : what is wrong with it
    """

    def __init__(self, path: Path, reason: str, remedy: str = "restore the file from its source") -> None:
        super().__init__(f"{path}: {reason}; {remedy}")
        self.path = path
        self.reason = reason
