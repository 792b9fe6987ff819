"""Measurements that are kept: each is computed once, in threads, and found again by its setting.

A finished measurement is one JSON file whose name is the digest of its setting. Interrupting loses only
those under way.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jax
from jax import Array

from ...models.target import digest_of

SCHEMA = 1
"""Raised when a measurement of the same setting comes to mean something else."""

type Compute = Callable[[Array, threading.Event], dict[str, Any]]
"""``(key, stop) -> result``, of what JSON has."""


class Listener(Protocol):
    """Told of progress, in the thread that measures were asked from."""

    def __call__(self, phase: str, done: int, total: int, label: str) -> None: ...


@dataclass(frozen=True)
class Measurement:
    """Something to be computed, fully determined by its setting and its seed."""

    label: str
    setting: Mapping[str, Any]
    """Of what JSON has; another setting is another measurement."""
    seed: int
    compute: Compute = field(repr=False, compare=False)

    @property
    def digest(self) -> str:
        return digest_of(json.dumps([SCHEMA, self.setting, self.seed], sort_keys=True))

    @property
    def key(self) -> Array:
        """A stream of its own: measurements that share a seed share a number and no randomness."""
        setting = json.dumps([SCHEMA, self.setting], sort_keys=True)
        return jax.random.fold_in(jax.random.key(self.seed), zlib.crc32(setting.encode()))


@dataclass
class Laboratory:
    """Where a reproduction's measurements are made and kept.

    Parameters
    ----------
    directory : of the results; measurements are in its folder ``measurements``
    jobs : threads; results do not depend on it
    fresh : compute again what is there already, once
    """

    directory: Path
    jobs: int = 1
    fresh: bool = False
    listener: Listener = lambda phase, done, total, label: None
    record: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Every measurement that was asked for: setting, seed and result by digest."""

    def measure(self, phase: str, wanted: Sequence[Measurement]) -> list[dict[str, Any]]:
        """The results of the measurements, in their order; each is computed at most once.

        Raises
        ------
        KeyboardInterrupt
            As it came, once the threads have stopped; finished measurements are safe.
        """
        found: dict[str, dict[str, Any]] = {}
        todo: dict[str, Measurement] = {}
        for one in wanted:
            if one.digest in self.record:
                continue
            kept = None if self.fresh else self._read(one)
            if kept is None:
                todo[one.digest] = one
            else:
                found[one.digest] = kept
        found |= self._compute(phase, list(todo.values()))
        for one in wanted:  # in this order, whichever was finished first
            if one.digest in found:
                self.record.setdefault(one.digest, _content(one, found[one.digest]))
        return [self.record[one.digest]["result"] for one in wanted]

    def _compute(self, phase: str, todo: Sequence[Measurement]) -> dict[str, dict[str, Any]]:
        """Results by digest; each is written as soon as it is there."""
        results: dict[str, dict[str, Any]] = {}
        if not todo:
            return results
        stop = threading.Event()
        pool = ThreadPoolExecutor(max(1, min(self.jobs, len(todo))))
        try:
            running: dict[Future[dict[str, Any]], Measurement] = {
                pool.submit(one.compute, one.key, stop): one for one in todo
            }
            self.listener(phase, 0, len(todo), todo[0].label)
            while running:
                # A limit of time, or Ctrl-C would be noticed only when a measurement ends.
                finished, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    one = running.pop(future)
                    results[one.digest] = future.result()
                    self._write(one, results[one.digest])
                    self.listener(phase, len(results), len(todo), one.label)
        except BaseException:
            stop.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)
        return results

    def _path(self, one: Measurement) -> Path:
        return self.directory / "measurements" / f"{one.digest}.json"

    def _read(self, one: Measurement) -> dict[str, Any] | None:
        path = self._path(one)
        try:
            return json.loads(path.read_text(encoding="utf-8"))["result"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} cannot be read ({error}); delete it to measure again") from error

    def _write(self, one: Measurement, result: dict[str, Any]) -> None:
        path = self._path(one)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = _content(one, result)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        temporary.write_text(
            json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8"
        )
        os.replace(temporary, path)

    def kept(self) -> int:
        """Finished measurements in the folder."""
        return len(list((self.directory / "measurements").glob("[!.]*.json")))


def _content(one: Measurement, result: dict[str, Any]) -> dict[str, Any]:
    return {"label": one.label, "setting": one.setting, "seed": one.seed, "result": result}


def sampler_setting(sampler: Any) -> dict[str, Any]:
    """A sampler's configuration as JSON has it, its adaptation left out: a tuning is given here."""
    fields = {f.name: getattr(sampler, f.name) for f in dataclasses.fields(sampler) if f.name != "adaptation"}
    plain = {
        name: vars(value) if dataclasses.is_dataclass(value) else value for name, value in fields.items()
    }
    return {"class": type(sampler).__name__, **json.loads(json.dumps(plain, default=str))}
