"""Stan's distributions, as functions that can be traced."""

from . import categorical as categorical
from . import continuous as continuous
from . import discrete as discrete
from . import distribution_functions as distribution_functions
from . import matrices as matrices
from . import multivariate as multivariate
from .evaluate import Evaluation as Evaluation
from .evaluate import Shared as Shared
from .evaluate import evaluate as evaluate
from .evaluate import evaluate_distribution_function as evaluate_distribution_function
from .evaluate import is_mass_function as is_mass_function
from .evaluate import known as known
