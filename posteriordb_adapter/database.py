"""A database of posteriors made of layers, and the look-up of a posterior by name or alias."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass

from .errors import CorruptDatabase, PosteriorNotFound
from .files import is_name, read_object
from .layers import Found, Layers, open_layers, paths_from_environment
from .posterior import Posterior, read_posterior

_ALIASES = "alias/posteriors.json"


@dataclass(frozen=True, init=False)
class PosteriorDatabase:
    """Posteriors, data, programs and reference draws in posteriordb's layout.

    Parameters
    ----------
    layers : directories ``posterior_database``, or checkouts that contain one. The first that has a
        file wins, file by file: a program may come from one layer, its data from another. Without
        any, those that ``POSTERIORDB_PATH`` names (separated as in ``PATH``).
    builtin : whether the built-in database is the last layer

    Raises
    ------
    LayerNotFound
        If a layer is not a directory.
    """

    layers: Layers

    def __init__(self, *layers: str | os.PathLike[str], builtin: bool = True) -> None:
        opened = open_layers(layers or paths_from_environment(), builtin=builtin)
        object.__setattr__(self, "layers", opened)

    def names(self) -> list[str]:
        """Names of all posteriors in all layers, sorted; aliases are not among them."""
        return sorted(self.layers.stems("posteriors", ".json"))

    def aliases(self) -> dict[str, str]:
        """Alias → name of a posterior, which need not be in any layer.

        Raises
        ------
        CorruptDatabase
            If a layer's alias file does not map names to names.
        """
        merged: dict[str, str] = {}
        for found in reversed(self.layers.find_all(_ALIASES)):
            aliases = read_object(found.path)
            for alias, name in aliases.items():
                if not (isinstance(name, str) and is_name(name)):
                    raise CorruptDatabase(found.path, f"alias {alias!r} stands for {name!r:.80}, no name")
            merged |= aliases
        return merged

    def posterior(self, name: str) -> Posterior:
        """The posterior of this name or alias.

        Raises
        ------
        PosteriorNotFound
            If there is none; the message has the nearest names.
        CorruptDatabase
            If its description cannot be used.
        """
        if is_name(name):
            found = self._find(name) or self._find(self.aliases().get(name))
            if found is not None:
                return read_posterior(self.layers, found)
        raise self._not_found(name)

    def _find(self, name: str | None) -> Found | None:
        return None if name is None else self.layers.find(f"posteriors/{name}.json")

    def _not_found(self, name: str) -> PosteriorNotFound:
        if not is_name(name):
            return PosteriorNotFound(f"{name!r:.80} cannot be the name of a posterior")
        known = {*self.names(), *self.aliases()}
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.4)
        near += [other for other in sorted(known) if name.lower() in other.lower() and other not in near][:5]
        hint = f"did you mean {', '.join(near)}?" if near else "'essper list' shows what there is"
        return PosteriorNotFound(f"no posterior {name!r} in {self.layers.describe()}; {hint}")
