"""Compiling the C++ handler with the system's compiler, once, into the cache."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import jax
import jaxlib.version

from ..cache import cache_dir
from ..target import digest_of

SOURCE = Path(__file__).with_name("handler.cc")
"""The one that is compiled; it includes the headers beside it."""
PREBUILT = Path(__file__).with_name("handler.so")
"""Taken as it is where a distribution ships it."""

_FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared", "-pthread")
_COMPILERS = ("c++", "g++", "clang++")


class HandlerBuildError(RuntimeError):
    """The C++ handler cannot be compiled here."""


@dataclass(frozen=True)
class Handler:
    """A compiled handler: which file, and what made it."""

    path: Path
    compiler: str


def find_compiler() -> list[str] | None:
    """The command of a C++ compiler: ``$CXX`` (which may hold arguments), else c++, g++, clang++."""
    own = shlex.split(os.environ.get("CXX", ""))
    if own:
        return own if shutil.which(own[0]) else None
    return next(([path] for name in _COMPILERS if (path := shutil.which(name))), None)


def handler() -> Handler:
    """The compiled handler, from the package, from the cache, or compiled now (some seconds).

    Raises
    ------
    HandlerBuildError
        If there is no compiler, it fails, or the cache cannot be written.
    """
    if PREBUILT.exists():
        return Handler(PREBUILT, "prebuilt")
    compiler = find_compiler()
    if compiler is None:
        wanted = os.environ.get("CXX") or ", ".join(_COMPILERS)
        raise HandlerBuildError(
            f"no C++ compiler found (looked for {wanted}): install g++ or clang++, or set CXX"
        )
    version = _version(compiler)
    try:
        path = cache_dir() / "ffi" / f"handler-{_key(version)}.so"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            _compile(compiler, path)
    except OSError as error:
        raise HandlerBuildError(
            f"cannot write the cache: {error}; set ESSPER_CACHE to a folder that can be written"
        ) from error
    return Handler(path, version)


def _version(compiler: list[str]) -> str:
    try:
        done = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise HandlerBuildError(f"the C++ compiler {shlex.join(compiler)} does not run: {error}") from error
    return f"{shlex.join(compiler)}: {done.stdout.partition('\n')[0]}"


def _key(compiler_version: str) -> str:
    # All that the library depends on; another version gets another file beside the first.
    sources = (SOURCE, *sorted(SOURCE.parent.glob("*.h")))
    contents = (part for path in sources for part in (path.name, path.read_bytes()))
    return digest_of(jaxlib.version.__version__, platform.machine(), compiler_version, *_FLAGS, *contents)


def _compile(compiler: list[str], path: Path) -> None:
    # Under a name of its own first: processes that start together each replace it by an equal file.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        out = Path(folder) / path.name
        command = [*compiler, *_FLAGS, "-isystem", jax.ffi.include_dir(), str(SOURCE), "-o", str(out)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise HandlerBuildError(f"{shlex.join(command)} failed:\n{done.stderr.strip()}")
        os.replace(out, path)
