"""Reading and writing the files of a database without trusting them.

A database may be somebody else's: sizes are bounded while reading, whatever a file declares, and no
name leads out of its layer.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

from .errors import CorruptDatabase

MAX_BYTES = 1 << 30
"""Largest content of one file, uncompressed. posteriordb's largest is 12 MB."""
MAX_RATIO = 200
"""Largest compression ratio of a zip member above `RATIO_EXEMPT` bytes. posteriordb's is 78."""
RATIO_EXEMPT = 1 << 24

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")
_CHUNK = 1 << 20


def is_name(name: str) -> bool:
    """Whether ``name`` can name a posterior, a model or a data set: one path component, not hidden."""
    return _NAME.fullmatch(name) is not None


def inside(layer: Path, relative: str) -> Path | None:
    """The file ``layer/relative``, or None where there is none.

    Raises
    ------
    CorruptDatabase
        If it lies outside ``layer``, by ``..``, an absolute path or a symbolic link, or is no
        regular file.
    """
    path = layer / relative
    try:
        resolved = path.resolve(strict=True)
        mode = resolved.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        # What does not exist must not be looked for outside of the layer either.
        if not path.resolve().is_relative_to(layer.resolve()):
            raise _outside(path, layer) from None
        return None
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, NUL bytes, endless names
        raise CorruptDatabase(path, f"cannot be opened ({error})") from error
    if not resolved.is_relative_to(layer.resolve()):
        raise _outside(path, layer)
    if not stat.S_ISREG(mode):
        raise CorruptDatabase(path, "is no regular file")
    return path


def _outside(path: Path, layer: Path) -> CorruptDatabase:
    return CorruptDatabase(path, f"leads out of its layer {layer}", "copy the file into the layer instead")


def read_content(path: Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """What a plain file holds, or the zip member that a ``.zip`` file is named after.

    Raises
    ------
    CorruptDatabase
        If the file cannot be read, its archive is broken or encrypted or lacks the member, or its
        content is larger than ``max_bytes``, declared or real.
    """
    try:
        if path.suffix != ".zip":
            with path.open("rb") as file:
                return _bounded(path, file, max_bytes)
        with zipfile.ZipFile(path) as archive:
            member = _member(path, archive)
            _check_declared(path, member, max_bytes)
            with archive.open(member) as file:
                return _bounded(path, file, max_bytes)
    except (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise CorruptDatabase(path, f"cannot be read ({error})") from error


def _member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    # By name: archives packed on a Mac hold __MACOSX/._NAME beside the file.
    name = path.name.removesuffix(".zip")
    named = [member for member in archive.infolist() if member.filename == name]
    if len(named) != 1:
        found = ", ".join(archive.namelist()[:5]) or "nothing"
        raise CorruptDatabase(path, f"should hold {name!r} exactly once but holds {found}")
    return named[0]


def _check_declared(path: Path, member: zipfile.ZipInfo, max_bytes: int) -> None:
    size, packed = member.file_size, max(member.compress_size, 1)
    if size > max_bytes:
        raise _too_large(path, max_bytes)
    if size > RATIO_EXEMPT and size > MAX_RATIO * packed:
        raise CorruptDatabase(path, f"would unpack to {size // packed} times its size", "do not unpack it")


def _bounded(path: Path, file: Any, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    left = max_bytes
    while part := file.read(min(_CHUNK, left + 1)):
        left -= len(part)
        if left < 0:
            raise _too_large(path, max_bytes)
        parts.append(part)
    return b"".join(parts)


def _too_large(path: Path, max_bytes: int) -> CorruptDatabase:
    return CorruptDatabase(path, f"holds more than {max_bytes} bytes", "no posterior needs that much")


def read_json(path: Path, *, max_bytes: int = MAX_BYTES) -> Any:
    """The JSON value in a file, zipped or not.

    Raises
    ------
    CorruptDatabase
        As `read_content`, and if the content is not JSON.
    """
    content = read_content(path, max_bytes=max_bytes)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CorruptDatabase(path, f"is not JSON ({error})") from error


def read_object(path: Path) -> dict[str, Any]:
    """As `read_json`, for a file that holds an object.

    Raises
    ------
    CorruptDatabase
        As `read_json`, and if the value is not an object.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise CorruptDatabase(path, f"holds a {type(value).__name__} where an object is expected")
    return value


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new one and no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0o600 would make a shared database unreadable
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def as_strings(value: Any, path: Path, field: str) -> tuple[str, ...]:
    """A field that is published as a string, a list of strings, an empty string or null.

    Raises
    ------
    CorruptDatabase
        If it is anything else.
    """
    items = [value] if isinstance(value, str) else value if value is not None else []
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise CorruptDatabase(path, f"{field!r} is {value!r:.80}, neither a string nor a list of strings")
    return tuple(item for item in items if item)
