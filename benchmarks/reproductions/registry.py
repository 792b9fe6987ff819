"""The reproductions there are. A new one is a file beside this one and a line here."""

from __future__ import annotations

from .avi_hmm import AVI_HMM
from .avi_linear import AVI_LINEAR
from .avi_nonlinear import AVI_NONLINEAR
from .avi_time_series import AVI_TIME_SERIES
from .bnn_potential import BNN_POTENTIAL
from .cold_posterior import COLD_POSTERIOR
from .drghmc_multiscale import DRGHMC_MULTISCALE
from .drhmc_funnel import DRHMC_FUNNEL
from .framework import Reproduction
from .fsgld import FSGLD
from .gibbs_diffusion import GIBBS_DIFFUSION
from .gibbs_mixing import GIBBS_MIXING
from .path_gradients import PATH_GRADIENTS
from .sgld_bias import SGLD_BIAS
from .step_misspecification import STEP_MISSPECIFICATION

REPRODUCTIONS: dict[str, Reproduction] = {
    reproduction.name: reproduction
    for reproduction in (
        DRHMC_FUNNEL,
        STEP_MISSPECIFICATION,
        DRGHMC_MULTISCALE,
        BNN_POTENTIAL,
        SGLD_BIAS,
        COLD_POSTERIOR,
        FSGLD,
        PATH_GRADIENTS,
        AVI_LINEAR,
        AVI_NONLINEAR,
        AVI_TIME_SERIES,
        AVI_HMM,
        GIBBS_MIXING,
        GIBBS_DIFFUSION,
    )
}
