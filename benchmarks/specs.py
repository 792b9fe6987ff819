"""Samplers by name: ``drhmc[stages=2,target_acceptance=0.9]`` and back.

The options are the fields of a sampler's configuration, those of nested configurations included
(``trajectory`` and ``adaptation``), so that a new field needs no change here.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..samplers import (
    HMC,
    MALA,
    NUTS,
    SGHMC,
    SGLD,
    SGNHT,
    AbandoningDelayedRejectionHMC,
    AmortizedVI,
    ConstantFactorVI,
    ControlVariateSGLD,
    CyclicalSGLD,
    DelayedRejectionGeneralizedHMC,
    DelayedRejectionHMC,
    DistributedSGLD,
    FederatedSGLD,
    FlowVI,
    FullRankVI,
    Gibbs,
    LowRankVI,
    MeanFieldVI,
    NumPyroHMCGibbs,
    PreconditionedSGLD,
)

SAMPLERS: dict[str, type] = {
    "nuts": NUTS,
    "hmc": HMC,
    "drhmc": DelayedRejectionHMC,
    "drghmc": DelayedRejectionGeneralizedHMC,
    "adrhmc": AbandoningDelayedRejectionHMC,
    "mala": MALA,
    "gibbs": Gibbs,
    "numpyro-hmcgibbs": NumPyroHMCGibbs,
    "sgld": SGLD,
    "sgld-cv": ControlVariateSGLD,
    "psgld": PreconditionedSGLD,
    "sghmc": SGHMC,
    "sgnht": SGNHT,
    "csgld": CyclicalSGLD,
    "dsgld": DistributedSGLD,
    "fsgld": FederatedSGLD,
    "fvi": MeanFieldVI,
    "fullrank-vi": FullRankVI,
    "lowrank-vi": LowRankVI,
    "flow-vi": FlowVI,
    "constant-vi": ConstantFactorVI,
    "avi": AmortizedVI,
}
"""The only place that knows which samplers the command line offers."""

_SPEC = re.compile(r"^(?P<name>[A-Za-z][\w-]*)(\[(?P<options>.*)\])?$")


class SpecError(ValueError):
    """A sampler was asked for in words that have no meaning."""


@dataclass(frozen=True)
class SamplerSpec:
    """A sampler's configuration under the name by which it was asked for."""

    name: str
    sampler: Any

    @property
    def label(self) -> str:
        """The shortest spec of this configuration: the name and what differs from its defaults."""
        default = dict(_options(SAMPLERS[self.name]()))
        changed = [f"{k}={_text(v)}" for k, v in _options(self.sampler) if v != default[k]]
        return f"{self.name}[{','.join(changed)}]" if changed else self.name

    @property
    def config(self) -> dict[str, Any]:
        """The full configuration, JSON-able, nested as in the sampler."""
        return dataclasses.asdict(self.sampler)

    @property
    def approximate(self) -> bool:
        """Whether the sampler says of itself that its draws are of another distribution than the target."""
        return bool(getattr(self.sampler, "approximate", False))

    @property
    def needs_rows(self) -> bool:
        """Whether the sampler takes minibatches, so that the target must be a sum over rows of data."""
        return bool(getattr(self.sampler, "needs_rows", False))

    @property
    def rows(self) -> str | None:
        """`essper.models.from_stan`'s argument for this sampler: what counts the rows; None: not needed."""
        return (dict(_options(self.sampler)).get("rows") or "auto") if self.needs_rows else None

    @property
    def needs_hierarchy(self) -> bool:
        """Whether the sampler treats parameters that belong to one datum each apart from the others."""
        return bool(getattr(self.sampler, "needs_hierarchy", False))

    @property
    def hierarchy(self) -> str | None:
        """`essper.models.from_stan`'s argument for this sampler: what counts the data; None: not needed."""
        return (dict(_options(self.sampler)).get("hierarchy") or "auto") if self.needs_hierarchy else None

    @property
    def uses_blocks(self) -> bool:
        """Whether the sampler draws from exact conditionals where a target has them."""
        return bool(getattr(self.sampler, "uses_blocks", False))


def parse_spec(text: str) -> SamplerSpec:
    """The sampler that ``NAME`` or ``NAME[key=value,…]`` stands for.

    Raises
    ------
    SpecError
        Naming the samplers, options or values that exist.
    """
    match = _SPEC.match(text.strip())
    if match is None:
        raise SpecError(f"sampler {text!r}: write NAME or NAME[key=value,…]")
    name = match["name"].lower()
    if name not in SAMPLERS:
        raise SpecError(f"no sampler is called {name!r}; there are {', '.join(SAMPLERS)}")
    given: dict[str, str] = {}
    for part in filter(None, (match["options"] or "").split(",")):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise SpecError(f"sampler {text!r}: {part!r} is no key=value")
        if key in given:
            raise SpecError(f"sampler {text!r}: {key!r} is given twice")
        given[key] = value
    try:
        sampler = _build(SAMPLERS[name](), given)
    except SpecError as error:
        raise SpecError(f"sampler {name}: {error}") from None
    except ValueError as error:
        raise SpecError(f"sampler {name}: {error}") from error
    if given:
        known = ", ".join(key for key, _ in _options(SAMPLERS[name]()))
        raise SpecError(f"sampler {name} has no option {next(iter(given))!r}; its options are {known}")
    return SamplerSpec(name, sampler)


def from_config(name: str, config: Mapping[str, Any]) -> SamplerSpec:
    """The spec whose ``config`` was stored in a record; the inverse of `SamplerSpec.config`."""

    def build(cls: type, values: Mapping[str, Any]) -> Any:
        hints = typing.get_type_hints(cls)
        return cls(**{k: value(hints[k], v) for k, v in values.items()})

    def value(hint: Any, stored: Any) -> Any:
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            return build(hint, stored)
        return tuple(stored) if isinstance(stored, list) else stored  # JSON has lists

    return SamplerSpec(name, build(SAMPLERS[name], config))


def _options(config: Any) -> Iterator[tuple[str, Any]]:
    """Every setting of a configuration, nested ones flattened."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _options(value)
        else:
            yield field.name, value


def _build(default: Any, given: dict[str, str]) -> Any:
    """``default`` changed by option texts, which are taken out of ``given`` as they are used.

    A nested configuration is that of this sampler's default, not its class's.
    """
    hints = typing.get_type_hints(type(default))
    values: dict[str, Any] = {}
    for field in dataclasses.fields(default):
        value = getattr(default, field.name)
        if dataclasses.is_dataclass(value):
            values[field.name] = _build(value, given)
        elif field.name in given:
            values[field.name] = _convert(field.name, given.pop(field.name), hints[field.name])
    return dataclasses.replace(default, **values)


def _text(value: Any) -> str:
    """A value as `_convert` reads it."""
    return "/".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _convert(key: str, text: str, hint: Any) -> Any:
    """A text as a value of a type: a number, a truth value, a text, one of several literals, or None.

    Several values of one type stand between slashes.
    """
    origin = typing.get_origin(hint)
    if origin is tuple:
        inner = typing.get_args(hint)[0]
        if typing.get_origin(inner) is tuple:
            raise SpecError(f"{key}={text!r}: lists of lists cannot be written here; give them in Python")
        return tuple(_convert(key, part.strip(), inner) for part in text.split("/"))
    if origin is Literal:
        choices = {str(choice): choice for choice in typing.get_args(hint)}
        if text not in choices:
            raise SpecError(f"{key}={text!r}: give one of {', '.join(choices)}")
        return choices[text]
    if origin in (types.UnionType, typing.Union):
        if text.lower() == "none":
            return None
        (hint,) = (arm for arm in typing.get_args(hint) if arm is not type(None))
        return _convert(key, text, hint)
    if hint not in (bool, int, float, str):
        raise SpecError(f"{key} cannot be written here; give it in Python")
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise SpecError(f"{key}={text!r}: give true or false")
        return text.lower() == "true"
    try:
        value = hint(text)
    except ValueError:
        raise SpecError(f"{key}={text!r} is no {hint.__name__}") from None
    if isinstance(value, float) and not math.isfinite(value):  # JSON could not hold it
        raise SpecError(f"{key}={text!r} is no finite number")
    return value
