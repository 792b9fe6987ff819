"""Stan programs as log densities in JAX, by interpretation at trace time."""

from .errors import LoweringError as LoweringError
from .errors import StanIndexError as StanIndexError
from .errors import UnsupportedStanError as UnsupportedStanError
from .hierarchy import find_hierarchy as find_hierarchy
from .interpreter import LoopReport as LoopReport
from .minibatch import factorize as factorize
from .model import Explanation as Explanation
from .model import Lowered as Lowered
from .model import ParameterBlock as ParameterBlock
from .model import lower as lower
