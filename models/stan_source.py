"""From a Stan program and its data to a ``bridgestan.StanModel``.

What the user gave → a `Program` and JSON text → a model, by one of three ways: a compiled
library, BridgeStan's own build, or stanli (a wheel with BridgeStan's C interface).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .cache import cache_dir
from .target import digest_of


class StanProgramError(ValueError):
    """A Stan program that cannot be read, compiled or loaded."""


class StanDataError(ValueError):
    """Data that cannot be read or that the program does not accept."""


class Origin(NamedTuple):
    """Where a line comes from."""

    file: str
    """An included file as its ``#include`` names it; the program's file, or the name of one given as text."""
    line: int
    """From 1."""


@dataclass(frozen=True)
class Program:
    """A Stan program: its text, or a library that was compiled from it."""

    name: str
    text: str | None
    """None where only the library is known."""
    complete: str | None
    """The text with its includes in place."""
    library: Path | None
    folder: Path
    """Where ``#include`` looks."""
    origins: tuple[Origin, ...] = ()
    """Where each line of ``complete`` comes from."""

    @property
    def identity(self) -> bytes:
        """What the digest is made of: the complete text, else the library's bytes."""
        if self.complete is not None:
            return self.complete.encode()
        assert self.library is not None
        return self.library.read_bytes()


@dataclass(frozen=True)
class Loaded:
    """A model and where it came from."""

    model: Any
    """``bridgestan.StanModel``"""
    origin: str
    """``"stanli 0.24.0"``, ``"BridgeStan 2.9.0"``, for people to read."""


def read_program(program: str | os.PathLike[str], name: str | None) -> Program:
    """The program at a path (``.stan`` or a compiled ``.so``), or given as text.

    A string with a brace or a line break is text. Raises `StanProgramError` for anything else that
    is no file, and for files that cannot be read or that include each other in a circle.
    """
    if isinstance(program, str) and ("{" in program or "\n" in program):
        return _program(name or "stan_model", program, name or "stan_model", Path.cwd())
    path = Path(program).expanduser()
    if not path.is_file():
        raise StanProgramError(
            f"there is no Stan program at {str(program)!r}: give the path of a .stan file, of a compiled "
            "*_model.so, or the program's text"
        )
    path = path.resolve()
    if path.suffix in (".so", ".dylib", ".dll"):
        return Program(name or path.stem.removesuffix("_model"), None, None, path, path.parent)
    return _program(name or path.stem, _text_of(path), path.name, path.parent)


def _program(name: str, text: str, file: str, folder: Path) -> Program:
    lines = list(_with_includes(text, file, folder))
    complete = "\n".join(line for line, _ in lines)
    return Program(name, text, complete, None, folder, tuple(origin for _, origin in lines))


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StanProgramError(f"the Stan program {path} cannot be read: {error}") from error


def read_data(data: Mapping[str, Any] | str | os.PathLike[str] | None, program: str) -> dict[str, Any]:
    """Data as plain Python values, from a mapping, JSON text, the path of a JSON file, or None.

    Raises `StanDataError`, naming the program, for what is none of these.
    """
    if data is None:
        return {}
    if isinstance(data, Mapping):
        import stanio

        text = json.dumps(stanio.json.process_dictionary(data), default=_plain)
        return json.loads(text)
    where = "the text given"
    try:
        if isinstance(data, str) and data.lstrip().startswith("{"):
            text = data
        else:
            where = f"the file {os.fspath(data)}"
            text = Path(data).expanduser().read_text(encoding="utf-8")
        payload = json.loads(text)
    except (OSError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StanDataError(
            f"the data of {program!r} cannot be read from {where}: {error}; give a mapping, JSON text, or "
            "the path of a JSON file"
        ) from error
    if not isinstance(payload, dict):
        raise StanDataError(
            f"the data of {program!r} in {where} are no JSON object: {type(payload).__name__}"
        )
    return payload


def program_digest(program: Program, data: dict[str, Any]) -> str:
    """Identifies program and data, wherever they are stored and however the JSON is spelled."""
    canonical = json.dumps(_canonical(data), sort_keys=True, separators=(",", ":"))
    return digest_of("stan", program.identity, canonical)


def load_model(program: Program, data: dict[str, Any], how: str | os.PathLike[str]) -> Loaded:
    """The model of a program and its data.

    Parameters
    ----------
    how : ``"auto"`` (BridgeStan's build where ``$BRIDGESTAN`` is set, else stanli), ``"stanli"``,
        ``"build"``, the path of BridgeStan's sources, or of the program's compiled library

    Raises
    ------
    StanProgramError, StanDataError
        With Stan's message.
    """
    text = json.dumps(_spelled(data))
    if program.library is not None:
        return _from_library(program.name, program.library, text)
    if how == "auto":
        how = "build" if os.environ.get("BRIDGESTAN") else "stanli"
    if how == "stanli":
        return _from_stanli(program, text)
    if how == "build":
        return _from_library(program.name, _build(program), text)
    path = Path(how).expanduser()
    if path.is_file():
        return _from_library(program.name, path.resolve(), text)
    if (path / "Makefile").is_file():
        with _bridgestan_at(path.resolve()):
            return _from_library(program.name, _build(program), text)
    raise StanProgramError(
        f"bridgestan={str(how)!r} is neither 'auto', 'stanli' nor 'build', nor BridgeStan's source folder, "
        f"nor a compiled library of {program.name!r}"
    )


# -- the three ways -------------------------------------------------------------------------------


def _from_stanli(program: Program, data: str) -> Loaded:
    import stanli  # loads a large library: only where it is used

    assert program.text is not None
    try:
        mir = stanli.stan_to_mir(program.text, include_paths=[program.folder])
    except RuntimeError as error:
        raise StanProgramError(f"Stan rejects the program {program.name!r}:\n{error}") from error
    try:
        model = stanli.bridgestan_model(mir=mir, data=data, name=program.name, warn=False)
    except RuntimeError as error:
        raise _construction_error(
            program.name, error, "; a feature that stanli lacks works with bridgestan='build'"
        ) from error
    return Loaded(model, f"stanli {version('stanli')}")


_LIBRARIES: dict[Path, str] = {}
_LOADING = threading.Lock()


def _from_library(name: str, path: Path, data: str) -> Loaded:
    import bridgestan

    # The dynamic linker answers a second load of one path with what it has, whatever is there now.
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    with _LOADING:
        if _LIBRARIES.setdefault(path, content) != content:
            raise StanProgramError(
                f"{path} has changed since this process loaded it: restart, or give the new one another name"
            )
    try:
        model = bridgestan.StanModel(path, data, warn=False)
    except RuntimeError as error:
        raise _construction_error(name, error, "") from error
    except (OSError, AttributeError) as error:  # from ctypes
        raise StanProgramError(
            f"{path} is no BridgeStan library that can be loaded here ({error}): build it with "
            "bridgestan.compile_model on this machine"
        ) from error
    return Loaded(model, f"BridgeStan {'.'.join(map(str, model.model_version()))}")


def _build(program: Program) -> Path:
    import bridgestan

    source = program.complete
    assert source is not None
    folder = cache_dir() / "programs"
    folder.mkdir(exist_ok=True)
    toolchain = f"{version('bridgestan')} {os.environ.get('BRIDGESTAN', '')}"
    library = folder / f"{program.name}-{digest_of(source, toolchain)}_model.so"
    if library.exists():
        return library
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        stan_file = Path(temporary) / f"{re.sub(r'\W', '_', program.name)}.stan"
        stan_file.write_text(source, encoding="utf-8")
        try:
            built = bridgestan.compile_model(stan_file, make_args=["STAN_THREADS=true"])
        except (RuntimeError, ValueError) as error:
            raise StanProgramError(
                f"BridgeStan cannot build the program {program.name!r}:\n{error}\n"
                "Without BridgeStan's toolchain, bridgestan='stanli' needs none."
            ) from error
        os.replace(built, library)
    return library


@contextmanager
def _bridgestan_at(path: Path) -> Iterator[None]:
    # bridgestan reads its sources' place from the environment alone.
    old = os.environ.get("BRIDGESTAN")
    os.environ["BRIDGESTAN"] = str(path)
    try:
        yield
    finally:
        if old is None:
            del os.environ["BRIDGESTAN"]
        else:
            os.environ["BRIDGESTAN"] = old


def _construction_error(name: str, error: RuntimeError, hint: str) -> StanDataError:
    return StanDataError(
        f"the program {name!r} does not accept its data: {str(error).strip()}\n"
        f"Every variable of its data block must be there, with its type, size and bounds{hint}."
    )


# -- text and values ------------------------------------------------------------------------------

_INCLUDE = re.compile(r"[ \t]*#include[ \t]+[<\"]?([^\s<>\"]+)[>\"]?.*")


def _with_includes(
    text: str, file: str, folder: Path, chain: tuple[Path, ...] = ()
) -> Iterator[tuple[str, Origin]]:
    """The lines of ``file``, ``#include`` lines replaced by the lines of the files they name.

    A missing file's ``#include`` is left for Stan to report. ``chain`` holds the files that ``text`` is
    being included by, the outermost first.
    """
    for number, line in enumerate(text.split("\n"), 1):
        match = _INCLUDE.fullmatch(line)
        path = (folder / match[1]).resolve() if match else None
        if match is None or path is None or not path.is_file():
            yield line, Origin(file, number)
        elif path in chain:
            cycle = " → ".join(link.name for link in (*chain[chain.index(path) :], path))
            raise StanProgramError(f"files in {folder} include each other in a circle: {cycle}")
        else:
            yield from _with_includes(_text_of(path), match[1], folder, (*chain, path))


def _plain(value: Any) -> Any:
    """Arrays of other libraries as lists, for `json.dumps`."""
    return np.asarray(value).tolist()


def _spelled(value: Any) -> Any:
    """Infinities and NaN as the strings that Stan's JSON format has for them."""
    if isinstance(value, dict):
        return {key: _spelled(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_spelled(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return "NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _canonical(value: Any) -> Any:
    """As `_spelled`, and 1.0 the same as 1: the same number to Stan."""
    if isinstance(value, dict):
        return {key: _canonical(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_canonical(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return _spelled(value)
