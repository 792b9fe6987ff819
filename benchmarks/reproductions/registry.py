"""The reproductions there are. A new one is a file beside this one and a line here."""

from __future__ import annotations

from .drghmc_multiscale import DRGHMC_MULTISCALE
from .drhmc_funnel import DRHMC_FUNNEL
from .framework import Reproduction
from .step_misspecification import STEP_MISSPECIFICATION

REPRODUCTIONS: dict[str, Reproduction] = {
    reproduction.name: reproduction
    for reproduction in (DRHMC_FUNNEL, STEP_MISSPECIFICATION, DRGHMC_MULTISCALE)
}
