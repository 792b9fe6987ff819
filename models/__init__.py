"""Where targets come from. Importing this package turns on JAX's float64 mode.

Stan works in float64 and so do essper's samplers on a CPU; a precision that depended on the order
of imports would be a trap. Call ``jax.config.update("jax_enable_x64", False)`` after the import to
work in float32 with targets written in JAX and Stan programs lowered with ``precision="float32"``; other
Stan targets then raise a clear error.
"""

import jax

jax.config.update("jax_enable_x64", True)  # before any array is made, hence the order of this file

from .bridgestan import ffi_status as ffi_status
from .bridgestan import last_error as last_error
from .conditional import Blocks as Blocks
from .conditional import Conditional as Conditional
from .funnel import funnel as funnel
from .gaussian import correlated_gaussian as correlated_gaussian
from .gaussian import ill_conditioned_gaussian as ill_conditioned_gaussian
from .gaussian import standard_gaussian as standard_gaussian
from .gaussian_field import GaussianField as GaussianField
from .hierarchy import Hierarchy as Hierarchy
from .hierarchy import HierarchyError as HierarchyError
from .mixture import gaussian_mixture as gaussian_mixture
from .lowered import LoweredTarget as LoweredTarget
from .numpyro import from_numpyro as from_numpyro
from .rosenbrock import rosenbrock as rosenbrock
from .stan import from_stan as from_stan
from .stan import resolve_backend as resolve_backend
from .stan_source import StanDataError as StanDataError
from .stan_source import StanProgramError as StanProgramError
from .target import Counter as Counter
from .target import Counts as Counts
from .target import Density as Density
from .target import Target as Target
from .target import from_log_density as from_log_density
from .verification import LoweringMismatch as LoweringMismatch
