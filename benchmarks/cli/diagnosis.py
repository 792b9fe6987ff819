"""Whether essper works on this machine, as plain values. Nothing here raises: what fails is a fact."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import one_line

if TYPE_CHECKING:
    from ...models.target import Target

POSTERIOR = "eight_schools-eight_schools_noncentered"
"""Of the built-in database: the one that is evaluated to see whether densities work."""


@dataclass(frozen=True)
class Source:
    """One way to BridgeStan."""

    name: str
    available: bool
    detail: str
    """What was found, or why nothing was."""


@dataclass(frozen=True)
class LayerCounts:
    """A layer of the database and how much it holds."""

    label: str
    path: Path
    posteriors: int
    programs: int
    references: int


@dataclass(frozen=True)
class CacheFolder:
    """A subfolder of the cache."""

    name: str
    files: int
    bytes: int


@dataclass(frozen=True)
class Problem:
    """Something that is not as it could be, and what to do about it."""

    what: str
    remedy: str
    fatal: bool = False
    """Whether no density can be evaluated because of it."""


@dataclass(frozen=True)
class Diagnosis:
    """All that ``essper doctor`` finds."""

    essper: str
    python: str
    platform: str
    jax: dict[str, Any]
    sources: tuple[Source, ...]
    ffi: dict[str, Any]
    gradient: dict[str, Any]
    lowering: dict[str, Any]
    layers: tuple[LayerCounts, ...]
    packages: dict[str, str | None]
    """Requirement → installed version, None where it is missing; optional ones only where installed."""
    cache: dict[str, Any]
    problems: tuple[Problem, ...] = field(default=())

    @property
    def works(self) -> bool:
        """Whether a density and its gradient could be evaluated."""
        return bool(self.gradient["works"])


def diagnose(databases: Sequence[Path], bridgestan: str = "auto") -> Diagnosis:
    """Look at everything once; evaluate one density and its gradient."""
    packages = installed_packages()
    jax, sources, ffi = _fact(_jax), bridgestan_sources(), _fact(_ffi)
    gradient = {"works": False, **_fact(lambda: _gradient(bridgestan))}
    lowering = {"works": False, **_fact(lambda: _lowering(bridgestan))}
    layers, wrong_layers = database_layers(databases)
    cache = _fact(_cache)
    problems = (
        *_package_problems(packages),
        *_density_problems(jax, sources, ffi, gradient),
        *_lowering_problems(lowering),
        *wrong_layers,
        *_cache_problems(cache),
    )
    return Diagnosis(
        essper=version("essper"),
        python=f"{platform.python_version()} ({sys.executable})",
        platform=platform.platform(),
        jax=jax,
        sources=sources,
        ffi=ffi,
        gradient=gradient,
        lowering=lowering,
        layers=layers,
        packages=packages,
        cache=cache,
        problems=problems,
    )


def _fact(find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``find`` returns, or ``{"error": why}``."""
    try:
        return find()
    except Exception as error:  # a broken installation breaks in any way: that is what is looked for
        return {"error": f"{type(error).__name__}: {one_line(str(error))}"}


def _jax() -> dict[str, Any]:
    from ... import models  # for its setting of JAX's precision

    del models
    import jax

    return {
        "version": jax.__version__,
        "backend": jax.default_backend(),
        "devices": [str(device) for device in jax.devices()],
        "x64": bool(jax.config.read("jax_enable_x64")),
    }


def _ffi() -> dict[str, Any]:
    from ...models import ffi_status

    status = ffi_status()
    return {
        "available": status.available,
        "reason": one_line(status.reason),
        "compiler": status.compiler,
        "library": status.library,
    }


def _gradient(bridgestan: str) -> dict[str, Any]:
    """One density and its gradient, inside a compiled program, held against a difference quotient."""
    import jax

    from ...posteriordb_adapter import PosteriorDatabase

    target = PosteriorDatabase(_builtin()).posterior(POSTERIOR).target("bridgestan", bridgestan)
    with jax.default_device(jax.local_devices(backend="cpu")[0]):  # Stan runs on no other
        return _tried(target)


def _tried(target: Target) -> dict[str, Any]:
    """Whether a target's gradient is its log density's slope."""
    import jax
    import numpy as np

    x = np.full(target.dim, 0.1)
    value, gradient = map(np.asarray, jax.jit(target.value_and_grad)(x))
    direction, h = np.linspace(0.5, 1.0, target.dim), 1e-5
    log_density = jax.jit(target.log_density)
    slope = (log_density(x + h * direction) - log_density(x - h * direction)) / (2 * h)
    works = bool(np.isfinite(value) and np.allclose(gradient @ direction, slope, rtol=1e-5, atol=1e-7))
    found = {"works": works, "posterior": POSTERIOR, "backend": target.backend, "log_density": float(value)}
    return found if works else {**found, "error": f"the gradient is {gradient} where the slope is {slope}"}


def _lowering(bridgestan: str) -> dict[str, Any]:
    """The same program lowered to JAX, held against Stan's density, and the size of the library."""
    from ...models.agreement import compare_densities
    from ...models.stan_to_jax.densities.base import DENSITIES
    from ...models.stan_to_jax.functions.registry import TABLE
    from ...models.verification import POINTS, TOLERANCE, finite_points
    from ...posteriordb_adapter import PosteriorDatabase

    posterior = PosteriorDatabase(_builtin()).posterior(POSTERIOR)
    target = posterior.target("jax", bridgestan, verify=False)
    found = compare_densities(target.value_and_grad, target.model, finite_points(target.model, POINTS))
    return {
        "works": found.compared == POINTS and found.within(TOLERANCE),
        "posterior": POSTERIOR,
        "backend": target.backend,
        "gradient_error": found.gradient_error,
        "functions": len(TABLE),
        "densities": len(DENSITIES),
    }


def _builtin() -> Path:
    from ...posteriordb_adapter.builtin import DATABASE

    return DATABASE


def bridgestan_sources() -> tuple[Source, ...]:
    """The ways to BridgeStan, available or not."""
    return (_stanli(), _from_environment(), _downloaded(), _compiled())


def _stanli() -> Source:
    try:
        import stanli

        del stanli
        return Source("stanli", True, version("stanli"))
    except (ImportError, OSError, PackageNotFoundError) as error:
        return Source("stanli", False, one_line(str(error)))


def _from_environment() -> Source:
    path = os.environ.get("BRIDGESTAN")
    if not path:
        return Source("$BRIDGESTAN", False, "not set")
    good = (Path(path) / "Makefile").is_file()
    return Source("$BRIDGESTAN", good, path if good else f"{path} does not hold BridgeStan's sources")


def _downloaded() -> Source:
    name = "downloaded sources"
    try:
        from bridgestan.download import CURRENT_BRIDGESTAN as path
    except (ImportError, OSError) as error:
        return Source(name, False, one_line(str(error)))
    good = (path / "Makefile").is_file()
    return Source(name, good, str(path) if good else f"none at {path}; --bridgestan build fetches them")


def _compiled() -> Source:
    try:
        folder = _cache_dir() / "programs"
        count = len(list(folder.glob("*_model.so")))
    except OSError as error:
        return Source("compiled programs", False, str(error))
    return Source("compiled programs", count > 0, f"{count} in {folder}")


def database_layers(databases: Sequence[Path]) -> tuple[tuple[LayerCounts, ...], list[Problem]]:
    """The layers with what they hold, and those that cannot be opened as problems."""
    from ...posteriordb_adapter import DatabaseError, PosteriorDatabase
    from ...posteriordb_adapter.layers import open_layers
    from .facts import layers_of
    from .options import layer_paths

    good, problems = [], []
    for path in layer_paths(databases):
        try:
            open_layers([path], builtin=False)
            good.append(path)
        except DatabaseError as error:
            what, _, remedy = one_line(str(error)).partition("; ")
            problems.append(Problem(f"a layer of the database is not used: {what}", remedy))
    database = PosteriorDatabase(*good) if good else PosteriorDatabase(_builtin(), builtin=False)
    return tuple(_counts(layer.label, layer.path) for layer in layers_of(database)), problems


def _counts(label: str, root: Path) -> LayerCounts:
    def count(*patterns: str) -> int:
        return len({path.name.removesuffix(".zip") for pattern in patterns for path in root.glob(pattern)})

    draws = "reference_posteriors/draws/draws"
    return LayerCounts(
        label=label,
        path=root,
        posteriors=count("posteriors/*.json"),
        programs=count("models/stan/*.stan"),
        references=count(f"{draws}/*.json", f"{draws}/*.json.zip"),
    )


def installed_packages() -> dict[str, str | None]:
    """Versions of what essper requires, and of optional packages that are installed, development aside."""
    found: dict[str, str | None] = {}
    for requirement in requires("essper") or ():
        match = re.match(r"[\w.-]+", requirement)
        assert match is not None
        if re.search(r"extra == .dev", requirement):
            continue
        optional = "extra ==" in requirement
        try:
            found[match[0]] = version(match[0])
        except PackageNotFoundError:
            if not optional:
                found[match[0]] = None
    return found


def _cache_dir() -> Path:
    from ...models.cache import cache_dir

    return cache_dir()


def _cache() -> dict[str, Any]:
    root = _cache_dir()
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    return {
        "path": root,
        "writable": os.access(root, os.W_OK),
        "folders": tuple(_measured(folder) for folder in folders),
    }


def _measured(folder: Path) -> CacheFolder:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return CacheFolder(folder.name, len(sizes), sum(sizes))


def _package_problems(packages: dict[str, str | None]) -> list[Problem]:
    missing = [name for name, installed in packages.items() if installed is None]
    if not missing:
        return []
    names = ", ".join(missing)
    return [Problem(f"packages are missing: {names}", f"pip install {' '.join(missing)}")]


def _density_problems(
    jax: dict[str, Any], sources: Sequence[Source], ffi: dict[str, Any], gradient: dict[str, Any]
) -> list[Problem]:
    problems: list[Problem] = []
    if "error" in jax:
        problems.append(Problem(f"JAX does not start: {jax['error']}", "reinstall jax and jaxlib", True))
    elif not jax["x64"]:
        remedy = "remove jax_enable_x64=False, or JAX_ENABLE_X64=0 from the environment"
        problems.append(Problem("JAX's float64 mode is off, which Stan's densities need", remedy, True))
    stanli, environment, *_ = sources
    if not environment.available and environment.detail != "not set":
        remedy = "let BRIDGESTAN name BridgeStan's source folder, or unset it to use stanli"
        problems.append(Problem(f"$BRIDGESTAN: {environment.detail}", remedy))
    if not any(source.available for source in sources):
        problems.append(Problem(f"no BridgeStan: {stanli.detail}", "pip install stanli", True))
    if not ffi.get("available"):
        why = str(ffi.get("reason") or ffi.get("error")).partition(": install")[0]
        problems.append(Problem(f"densities are called through Python, which is slow: {why}", _COMPILER))
    if not gradient["works"]:
        what = f"the density of {POSTERIOR} cannot be evaluated: {gradient.get('error')}"
        problems.append(Problem(what, "solve the other problems first; else try --bridgestan stanli", True))
    return problems


def _lowering_problems(lowering: dict[str, Any]) -> list[Problem]:
    if lowering["works"]:
        return []
    why = lowering.get("error") or f"the gradient's relative error is {lowering['gradient_error']:.1e}"
    what = f"the program of {POSTERIOR} cannot be lowered to JAX: {why}"
    return [Problem(what, "reinstall jax, jaxlib and lark; --backend bridgestan does without")]


_COMPILER = "install g++ or clang++, or let CXX name a C++ compiler"


def _cache_problems(cache: dict[str, Any]) -> list[Problem]:
    if cache.get("writable"):
        return []
    what = cache.get("error") or f"the cache {cache['path']} cannot be written"
    return [Problem(what, "let ESSPER_CACHE name a folder that can be written")]
