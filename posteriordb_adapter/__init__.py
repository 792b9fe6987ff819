"""Databases of posteriors and reference draws, layered; building and checking references."""

from .acceptance import acceptance_checks as acceptance_checks
from .database import PosteriorDatabase as PosteriorDatabase
from .draws import Comparable as Comparable
from .draws import ReferenceDraws as ReferenceDraws
from .draws import comparable as comparable
from .errors import CorruptDatabase as CorruptDatabase
from .errors import DatabaseError as DatabaseError
from .errors import LayerNotFound as LayerNotFound
from .errors import MissingData as MissingData
from .errors import MissingProgram as MissingProgram
from .errors import MissingReference as MissingReference
from .errors import PosteriorNotFound as PosteriorNotFound
from .errors import UnmappedReference as UnmappedReference
from .identity import IdentityCheck as IdentityCheck
from .identity import check_draws as check_draws
from .identity import check_reference as check_reference
from .posterior import Posterior as Posterior
from .summaries import Summary as Summary
from .summaries import read_summary as read_summary
from .unconstrain import in_support as in_support
from .unconstrain import names_to_keep as names_to_keep
from .unconstrain import to_unconstrained as to_unconstrained
from .writing import round_draws as round_draws
from .writing import write_reference as write_reference
