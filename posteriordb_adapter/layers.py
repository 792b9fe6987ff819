"""Directories in posteriordb's layout, one over the other: the first that has a file wins."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .builtin import DATABASE
from .errors import LayerNotFound
from .files import inside, is_name

ENVIRONMENT_VARIABLE = "POSTERIORDB_PATH"
_FOLDER = "posterior_database"
_PARTS = ("posteriors", "models", "data", "reference_posteriors", "alias")
"""Folders of which a database has at least one."""


@dataclass(frozen=True)
class Found:
    """A file, and the layer that it was found in."""

    path: Path
    layer: Path


@dataclass(frozen=True)
class Layers:
    """Layers of one database, the first over the others."""

    roots: tuple[Path, ...]

    def find(self, *relatives: str) -> Found | None:
        """The first layer's file with one of the ``relatives``, tried in their order in each layer.

        Raises
        ------
        CorruptDatabase
            If a name leads out of its layer.
        """
        for root in self.roots:
            for relative in relatives:
                path = inside(root, relative)
                if path is not None:
                    return Found(path, root)
        return None

    def find_all(self, relative: str) -> list[Found]:
        """Every layer's file of this name, the first layer's first."""
        return [Found(path, root) for root in self.roots if (path := inside(root, relative)) is not None]

    def stems(self, folder: str, suffix: str) -> set[str]:
        """Names of the files ``folder/NAME suffix`` in any layer."""
        files = (path for root in self.roots for path in (root / folder).glob(f"*{suffix}"))
        return {name for path in files if is_name(name := path.name.removesuffix(suffix))}

    def describe(self) -> str:
        return ", ".join(map(str, self.roots))


def open_layers(paths: Iterable[str | os.PathLike[str]], *, builtin: bool = True) -> Layers:
    """The layers at ``paths``, the built-in database below them unless ``builtin`` is false.

    Raises
    ------
    LayerNotFound
        If a path is not a directory, or not one of a database.
    """
    roots = [_root(Path(path)) for path in paths]
    return Layers((*roots, DATABASE) if builtin else tuple(roots))


def paths_from_environment() -> list[str]:
    """The layers that ``POSTERIORDB_PATH`` names, separated as in ``PATH``."""
    return [path for path in os.environ.get(ENVIRONMENT_VARIABLE, "").split(os.pathsep) if path]


def _root(path: Path) -> Path:
    path = path.expanduser().absolute()
    root = path / _FOLDER if (path / _FOLDER).is_dir() else path
    if any((root / part).is_dir() for part in _PARTS):
        return root
    wrong = f"has none of the folders {', '.join(_PARTS)}" if path.is_dir() else "is not a directory"
    raise LayerNotFound(
        f"{path} {wrong}; give a folder {_FOLDER!r} or a checkout that contains it"
        f" (layers also come from the environment variable {ENVIRONMENT_VARIABLE})"
    )
