"""Stan's operators and function library, on `Value`s; densities, ODE solvers and RNGs are elsewhere."""

# these enter their functions into the table
from . import containers as containers
from . import elementwise as elementwise
from . import factorizations as factorizations
from . import gaussian_process as gaussian_process
from . import hidden_markov as hidden_markov
from . import ordering as ordering
from . import products as products
from . import reductions as reductions
from . import shapes as shapes
from . import subvectors as subvectors
from .operators import binary as binary
from .operators import unary as unary
from .registry import call as call
from .registry import known as known
