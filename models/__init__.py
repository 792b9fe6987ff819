"""Where targets come from. Importing this package turns on JAX's float64 mode.

Stan works in float64 and so do essper's samplers on a CPU; a precision that depended on the order
of imports would be a trap. Call ``jax.config.update("jax_enable_x64", False)`` after the import to
work in float32 with targets written in JAX; Stan targets then raise a clear error.
"""

import jax

jax.config.update("jax_enable_x64", True)  # before any array is made, hence the order of this file

from .target import Counter as Counter
from .target import Counts as Counts
from .target import Density as Density
from .target import Target as Target
from .target import from_log_density as from_log_density
