"""One posterior: a Stan program, a data set and, for some, reference draws, each from some layer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .draws import ReferenceDraws, read_reference
from .errors import CorruptDatabase, MissingData, MissingProgram, MissingReference
from .files import MAX_BYTES, as_strings, is_name, read_content, read_object
from .layers import Found, Layers

if TYPE_CHECKING:
    from ..models.lowered import Precision
    from ..models.stan import Backend
    from ..models.target import Target


@dataclass(frozen=True)
class Description:
    """What a database says in words about a model or a data set."""

    name: str
    title: str
    description: str
    keywords: tuple[str, ...]
    references: tuple[str, ...]
    """BibTeX keys in posteriordb's bibliography."""
    urls: tuple[str, ...]


@dataclass(frozen=True)
class Posterior:
    """A posterior and where its parts are; nothing but its description has been read yet."""

    name: str
    keywords: tuple[str, ...]
    dimensions: Mapping[str, int]
    """Elements of each variable as the database counts them, for information: whether a simplex of
    K counts K or K − 1 differs between posteriors. The model knows its own dimension."""
    references: tuple[str, ...]
    urls: tuple[str, ...]
    reference_name: str | None
    """Whose draws are the reference; often this posterior's own name, but not always. None where
    there are none."""
    model: Description
    data_info: Description
    program_file: str = field(repr=False)
    data_file: str = field(repr=False)
    found: Found = field(repr=False)
    layers: Layers = field(repr=False)

    def program_path(self) -> Path:
        """The model's Stan program.

        Raises
        ------
        MissingProgram
            If no layer has it.
        """
        return self._program.path

    def program(self) -> str:
        """The text of the Stan program.

        Raises
        ------
        MissingProgram
            If no layer has it.
        CorruptDatabase
            If it is not text.
        """
        return _text(self.program_path())

    def data_text(self) -> str:
        """The data as Stan's JSON.

        Raises
        ------
        MissingData
            If no layer has them.
        CorruptDatabase
            If the file cannot be read.
        """
        return _text(self._data.path)

    def data(self) -> dict[str, Any]:
        """The data, variable by variable.

        Raises
        ------
        MissingData
            If no layer has them.
        CorruptDatabase
            If the file does not hold a JSON object.
        """
        return read_object(self._data.path)

    @property
    def has_reference(self) -> bool:
        """Whether some layer has the reference draws."""
        return self._reference is not None

    def reference(self) -> ReferenceDraws:
        """The reference draws.

        Raises
        ------
        MissingReference
            If the posterior has none, or no layer has them.
        CorruptDatabase
            If the file cannot be used.
        """
        found = self._reference
        if found is None or self.reference_name is None:
            raise MissingReference(
                f"posterior {self.name!r} names no reference draws"
                if self.reference_name is None
                else f"the reference draws {self.reference_name!r} of {self.name!r} are in no layer of"
                f" {self.layers.describe()}; add a layer that has them, or build them with"
                f" 'essper reference build {self.name}'"
            )
        return read_reference(self.reference_name, found)

    def sources(self) -> dict[str, Path | None]:
        """Part → the layer that it comes from, None where no layer has it.

        The parts are ``posterior``, ``model`` and ``data`` (program and data themselves are
        ``program`` and ``data``, the model's description is ``model``) and ``reference``.
        """
        parts = {
            "posterior": self.found,
            "model": self.layers.find(f"models/info/{self.model.name}.info.json"),
            "program": self.layers.find(self.program_file),
            "data": self._find_data(),
            "reference": self._reference,
        }
        return {part: found.layer if found else None for part, found in parts.items()}

    def target(
        self,
        backend: Backend = "auto",
        bridgestan: str = "auto",
        precision: Precision = "float64",
        verify: bool = True,
        rows: str | None = None,
        hierarchy: str | None = None,
        blocks: bool = False,
    ) -> Target:
        """The posterior as a target; arguments as in `essper.models.from_stan`.

        Parameters
        ----------
        blocks : attach the exact conditionals that the model is known to have (`essper.models.conditionals`)

        Raises
        ------
        MissingProgram, MissingData
            If no layer has them.
        StanProgramError, StanDataError, ValueError
            As `essper.models.from_stan`.
        ConditionalsMismatch
            If the program has another density than the known model of its name; with ``blocks`` only.
        """
        from ..models import from_stan  # starts JAX; looking into a database should not

        program, data = self.program_path(), self.data_text()
        target = from_stan(
            program,
            data,
            backend,
            bridgestan=bridgestan,
            name=self.name,
            precision=precision,
            verify=verify,
            rows=rows,
            hierarchy=hierarchy,
        )
        if not blocks:
            return target
        from ..models.conditionals import blocks_for
        from ..models.stan_source import read_data

        return blocks_for(self.model.name, read_data(data, self.name), target)

    @cached_property
    def _program(self) -> Found:
        found = self.layers.find(self.program_file)
        if found is None:
            raise MissingProgram(
                f"the Stan program {self.program_file} of {self.name!r} is in no layer of"
                f" {self.layers.describe()}; add a layer that has it (a full posteriordb, or a folder of"
                f" yours with {self.program_file} in it)"
            )
        return found

    @cached_property
    def _data(self) -> Found:
        found = self._find_data()
        if found is None:
            raise MissingData(
                f"the data {self.data_file} of {self.name!r} are in no layer of"
                f" {self.layers.describe()}; add a layer that has {self.data_file} or {self.data_file}.zip"
            )
        return found

    def _find_data(self) -> Found | None:
        return self.layers.find(self.data_file, f"{self.data_file}.zip")

    @cached_property
    def _reference(self) -> Found | None:
        if self.reference_name is None:
            return None
        return self.layers.find(
            f"reference_posteriors/draws/draws/{self.reference_name}.json.zip",
            f"reference_posteriors/draws/draws/{self.reference_name}.json",
        )


def read_posterior(layers: Layers, found: Found) -> Posterior:
    """The posterior that a file ``posteriors/NAME.json`` describes.

    Raises
    ------
    CorruptDatabase
        If a field is missing or cannot be used.
    """
    path, record = found.path, read_object(found.path)
    model_name = _name(record, "model_name", path)
    data_name = _name(record, "data_name", path)
    model_path, model_info = _info(layers, "models", model_name, path)
    data_path, data_info = _info(layers, "data", data_name, path)
    reference = record.get("reference_posterior_name")
    return Posterior(
        name=path.name.removesuffix(".json"),
        keywords=as_strings(record.get("keywords"), path, "keywords"),
        dimensions=_dimensions(record.get("dimensions"), path),
        references=as_strings(record.get("references"), path, "references"),
        urls=as_strings(record.get("urls"), path, "urls"),
        reference_name=None if reference is None else _name(record, "reference_posterior_name", path),
        model=_description(model_name, model_info, model_path),
        data_info=_description(data_name, data_info, data_path),
        program_file=_program_file(model_name, model_info, model_path),
        data_file=_text_field(data_info, "data_file", data_path) or f"data/data/{data_name}.json",
        found=found,
        layers=layers,
    )


def _info(layers: Layers, kind: str, name: str, posterior: Path) -> tuple[Path, dict[str, Any]]:
    # A user's layer may leave the descriptions out: then the usual file names hold.
    found = layers.find(f"{kind}/info/{name}.info.json")
    return (found.path, read_object(found.path)) if found else (posterior, {})


def _program_file(model_name: str, info: Mapping[str, Any], path: Path) -> str:
    implementations = info.get("model_implementations") or {}
    stan = implementations.get("stan") if isinstance(implementations, dict) else implementations
    if not isinstance(stan or {}, dict):
        raise CorruptDatabase(path, f"'model_implementations' is {implementations!r:.80}, not an object")
    return _text_field(stan or {}, "model_code", path) or f"models/stan/{model_name}.stan"


def _description(name: str, info: Mapping[str, Any], path: Path) -> Description:
    keywords, references, urls = (
        as_strings(info.get(key), path, key) for key in ("keywords", "references", "urls")
    )
    title, description = (_text_field(info, key, path) for key in ("title", "description"))
    return Description(name, title, description, keywords, references, urls)


def _text_field(record: Mapping[str, Any], key: str, path: Path) -> str:
    value = record.get(key)
    if value is not None and not isinstance(value, str):
        raise CorruptDatabase(path, f"{key!r} is {value!r:.80}, not a string")
    return value or ""


def _name(record: Mapping[str, Any], key: str, path: Path) -> str:
    value = record.get(key)
    if not (isinstance(value, str) and is_name(value)):
        raise CorruptDatabase(path, f"{key!r} is {value!r:.80}, no name")
    return value


def _dimensions(value: Any, path: Path) -> dict[str, int]:
    # Published as a number of elements or, for matrices, as the list of the array's extents.
    value = {} if value is None else value
    if isinstance(value, dict):
        extents = {name: size if isinstance(size, list) else [size] for name, size in value.items()}
        if all(type(n) is int and 0 <= n <= MAX_BYTES for size in extents.values() for n in size):
            return {name: prod(size) for name, size in extents.items()}
    raise CorruptDatabase(path, f"'dimensions' is {value!r:.80}, not numbers of elements by variable")


def _text(path: Path) -> str:
    try:
        return read_content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CorruptDatabase(path, f"is not UTF-8 text ({error})") from error


def data_json(data: Mapping[str, Any]) -> str:
    """Data as JSON text in the form in which the built-in database keeps it: one line a variable."""
    lines = (f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in data.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"
