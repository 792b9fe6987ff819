"""NumPyro's Gibbs samplers under essper's interface: HMCGibbs and DiscreteHMCGibbs.

A step draws the one part of the variables and then moves the other by one trajectory of NumPyro's NUTS or
HMC (Phan, Pradhan & Jankowiak 2019). What a step costs, read from NumPyro's source and compared with what is
executed in tests:

- the trajectory: a gradient per integration step;
- a gradient more before it, wherever the draws have changed anything: what NUTS has kept of the last
  trajectory's end holds no longer;
- `HMCGibbs`: the conditional draws;
- `DiscreteHMCGibbs`: a density for every other value of every discrete variable (or for one value of each,
  as a random walk), and one more after the trajectory, wherever that has moved. What of it does not depend
  on the discrete variables XLA may move out of that loop; it is counted as NumPyro asks for it.

A first state costs a gradient, and of the latter a density for every try. Warmup is essper's own, of all
coordinates; NUTS uses the part of the metric that is its own.

Chains run one by one on a CPU. In lockstep the gradient that is not always needed is executed always.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import jax
import numpy as np
from jax import Array

from ...models.conditional import Blocks, Conditional
from ...models.target import Density, Target
from ..adaptation import Tuning, WindowedAdaptation
from ..base import Budget, Kernel, Progress, Run
from ..driver import run_bound, run_kernel
from ..layouts import Execution

if TYPE_CHECKING:
    from .numpyro_discrete import DiscretePeer

INNER = ("nuts", "hmc")


@dataclass(frozen=True)
class Trajectories:
    """NumPyro's kernel for the coordinates that move by gradients, and how it is tuned.

    Parameters
    ----------
    inner : ``"nuts"``, or ``"hmc"`` with a fixed number of integration steps.
    max_num_doublings : a trajectory of NUTS has at most 2^this − 1 integration steps.
    num_integration_steps : of a trajectory of HMC.
    adaptation : how the step size and the metric are found.
    execution : how the chains run together; see `layouts`.
    """

    inner: Literal["nuts", "hmc"] = "nuts"
    max_num_doublings: int = 10
    num_integration_steps: int = 8
    adaptation: WindowedAdaptation = field(default_factory=WindowedAdaptation)
    execution: Execution = "auto"

    def __post_init__(self) -> None:
        if self.inner not in INNER:
            raise ValueError(f"inner={self.inner!r}: give 'nuts' or 'hmc'")
        if self.max_num_doublings < 1:
            raise ValueError(f"max_num_doublings={self.max_num_doublings}: give at least 1")
        if self.num_integration_steps < 1:
            raise ValueError(f"num_integration_steps={self.num_integration_steps}: give at least 1")

    @property
    def dense(self) -> bool:
        return self.adaptation.metric == "dense"


@dataclass(frozen=True)
class NumPyroHMCGibbs(Trajectories):
    """NumPyro's `HMCGibbs`, with the target's exact conditionals as its ``gibbs_fn``.

    It runs where some coordinates have exact conditionals and some have not: the latter move by gradients of
    the target. Whatever the conditionals draw besides (labels) is a site of ``gibbs_fn`` too, and is in
    ``info.extra``. Its order is a systematic scan's: all conditionals, then the trajectory.
    """

    uses_blocks: ClassVar[bool] = True

    run = run_bound

    def bound(self, target: Target) -> BoundPeer:
        """The kernel sampler for one target.

        Raises
        ------
        ValueError
            If the target has no exact conditionals, or has them for all coordinates.
        """
        blocks = target.blocks
        if blocks is None or not blocks.conditionals:
            raise ValueError(
                f"{target.name} has no exact conditionals, and NumPyro's HMCGibbs nothing to draw by: run"
                " nuts, or give the target `blocks` (essper.samplers.Blocks)"
            )
        if not blocks.left:
            raise ValueError(
                f"all coordinates of {target.name} have exact conditionals, and NumPyro's HMCGibbs has none"
                " to move by gradients: run gibbs, which draws all of them"
            )
        return _bound(self, tuple(blocks.conditionals.items()), blocks.left, blocks.start, target.dim)


@dataclass(frozen=True, eq=False)
class NumPyroDiscreteHMCGibbs(Trajectories):
    """NumPyro's `DiscreteHMCGibbs` on a numpyro model with discrete latent sites.

    The target is the marginal distribution of the model's continuous sites, in NumPyro's coordinates
    (`from_numpyro` of the model with its discrete sites summed out): draws are compared on that. Its density
    is not evaluated: all that is counted is the model's joint density of both kinds of sites. The discrete
    sites' values are in ``info.extra``, by name.

    Chains start from discrete values drawn from the prior. For the first position and the first step size the
    joint density is that of one such draw.

    Parameters
    ----------
    model, args, kwargs : as of `from_numpyro`.
    random_walk : propose uniformly, instead of drawing from the conditional distribution.
    modified : never propose the present value (Liu 1996). NumPyro's ratio of acceptance overflows, and the
        value stays for ever, where another one is more probable by 709 nats: as at a far first state.
    """

    model: Callable[..., Any] = field(kw_only=True)
    args: tuple[Any, ...] = field(default=(), kw_only=True)
    kwargs: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    random_walk: bool = field(default=False, kw_only=True)
    modified: bool = field(default=False, kw_only=True)

    def run(
        self,
        key: Array,
        target: Target,
        budget: Budget,
        *,
        chains: int = 4,
        progress: Progress | None = None,
    ) -> Run:
        """As `driver.run_kernel`; gradients and densities count as one each.

        Raises
        ------
        ValueError
            If the model has no discrete or no continuous sites, discrete ones with other values than
            0, 1, …, or no state of finite density, or the target other parameters; and what `run_kernel`
            raises.
        """
        self._require_parameters(target)
        found = self.peer
        joint = replace(target, density=found.density, counter=None, blocks=None)
        run = run_kernel(found.bound, key, joint, budget, chains=chains, progress=progress)
        return replace(run, target=target, sampler=self)

    @cached_property
    def peer(self) -> DiscretePeer:
        """NumPyro's kernel, prepared once: that runs the model a few times, as tracing it does."""
        from .numpyro_discrete import DiscretePeer

        return DiscretePeer(self)

    def _require_parameters(self, target: Target) -> None:
        own = self.peer.parameters
        if (target.dim, target.param_names) != (own.dim, own.param_names):
            raise ValueError(
                f"{target.name} has the parameters {_few(target.param_names)}, the model's continuous sites"
                f" are {_few(own.param_names)}: give the marginal of the same model as the target"
            )
        points, found = self.peer.examples
        if not np.allclose(target.constrain(points), found, rtol=1e-8, atol=1e-8):
            raise ValueError(
                f"{target.name} has other unconstrained coordinates than NumPyro's of the model: make the"
                " target with from_numpyro"
            )


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (", …" if len(names) > 6 else "")


@dataclass(frozen=True, eq=False)
class BoundPeer:
    """A peer on one target, as the driver takes it. Made once, or its programs would be compiled again."""

    make: Callable[[Density, Tuning], Kernel]
    adaptation: WindowedAdaptation
    execution: Execution

    equal_steps: ClassVar[bool] = False

    def kernel(self, density: Density, tuning: Tuning) -> Kernel:
        """One draw of the one part and one trajectory of the other a step."""
        return self.make(density, tuning)


@lru_cache(maxsize=16)
def _bound(
    sampler: NumPyroHMCGibbs,
    conditionals: tuple[tuple[str, Conditional], ...],
    left: tuple[int, ...],
    start: Callable[[Array, Array], dict[str, Array]],
    dim: int,
) -> BoundPeer:
    """The same for blocks of the same functions."""
    from .numpyro_hmc_gibbs import HMCGibbsPeer  # numpyro takes half a second: only where it is used

    peer = HMCGibbsPeer(sampler, Blocks(dict(conditionals), left, start), dim)
    return BoundPeer(peer, sampler.adaptation, alone(sampler.execution))


def alone(asked: Execution) -> Execution:
    """On a CPU every chain alone: what is evaluated only at times is evaluated always in a batch."""
    return "independent" if asked == "auto" and jax.default_backend() == "cpu" else asked
