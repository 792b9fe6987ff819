"""numpyro models as targets: closed forms, numpyro's own potential, rows of a plate, refusals."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from essper.models import from_numpyro
from essper.models.factorization import FactorizationError
from essper.samplers import NUTS, Budget
from numpyro.contrib.control_flow import scan
from numpyro.infer.reparam import LocScaleReparam
from numpyro.infer.util import constrain_fn, potential_energy
from scipy import stats

# Their annotations are wider than what comes back here.
sample: Any = numpyro.sample
subsample: Any = numpyro.subsample
norm: Any = stats.norm
multivariate_normal: Any = stats.multivariate_normal

N, P = 60, 2
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, P))
Y = X @ [1.0, -2.0] + 0.5 * RNG.standard_normal(N)
NOISE = 0.5
GROUP = np.arange(N) % 3


def conjugate(x, y):
    beta = sample("beta", dist.Normal(0, 1).expand([P]).to_event(1))
    with numpyro.plate("rows", len(y), subsample_size=8) as i:
        sample("y", dist.Normal(x[i] @ beta, NOISE), obs=y[i])


def shapes(y):
    """Supports of all kinds, one that depends on another site, and deterministic sites."""
    scale = sample("scale", dist.HalfNormal(2))
    numpyro.deterministic("twice", 2 * scale)
    below = sample("below", dist.Uniform(0, scale))
    weights = sample("weights", dist.Dirichlet(jnp.array([1.0, 2.0, 3.0])).expand([2]).to_event(1))
    rate = sample("rate", dist.Uniform(0, 1))
    cuts = sample(
        "cuts",
        dist.TransformedDistribution(dist.Normal(0, 1).expand([3]), dist.transforms.OrderedTransform()),
    )
    sample("flat", dist.ImproperUniform(dist.constraints.positive, (), (2,)))
    with numpyro.handlers.reparam(config={"z": LocScaleReparam(0.0)}):
        z = sample("z", dist.Normal(rate, 2))
    sample("y", dist.Normal(below + weights[0, 0] + cuts[1] + z, scale * rate), obs=y)


def hierarchical(x, group, y):
    """Sizes computed from data; several observed sites, one outside of the plate; two kinds of arrays."""
    groups = int(group.max()) + 1
    mu = sample("mu", dist.Normal(0, 1))
    tau = sample("tau", dist.HalfNormal(1))
    with numpyro.plate("groups", groups):
        effect = sample("effect", dist.Normal(mu, tau))
    sample("pilot", dist.Normal(mu, 1), obs=0.3)
    with numpyro.plate("rows", len(y), subsample_size=5) as i, numpyro.handlers.scale(scale=0.5):
        sample("first", dist.Normal(effect[group[i]], 1), obs=y[i])
        numpyro.factor("second", -jnp.square(x[i, 0] - mu))


def subsampled(x, y):
    beta = sample("beta", dist.Normal(0, 1).expand([P]).to_event(1))
    with numpyro.plate("columns", 2, dim=-2), numpyro.plate("rows", len(y), subsample_size=8, dim=-1):
        x, y = subsample(x, event_dim=1), subsample(y, event_dim=0)
        sample("y", dist.Normal(x @ beta, jnp.array([[0.5], [2.0]])), obs=y)


def local(y):
    mu = sample("mu", dist.Normal(0, 1))
    with numpyro.plate("rows", len(y), subsample_size=5) as i:
        z = sample("z", dist.Normal(mu, 1))
        sample("y", dist.Normal(z, 1), obs=y[i])


MODELS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "indexed": (conjugate, (X, Y)),
    "hierarchical": (hierarchical, (jnp.asarray(X), GROUP, jnp.asarray(Y))),
    "numpyro.subsample": (subsampled, (X, Y)),
}


@pytest.fixture(scope="module")
def targets():
    return {name: from_numpyro(model, *args) for name, (model, args) in MODELS.items()}


def at(target, seed=0, shape=()):
    return jnp.asarray(np.random.default_rng(seed).normal(0, 0.7, (*shape, target.dim)))


# -- density and parameters -----------------------------------------------------------------------


def test_conjugate_regression_has_its_closed_form(targets):
    target = targets["indexed"]
    precision = np.eye(P) + X.T @ X / NOISE**2
    posterior = multivariate_normal(np.linalg.solve(precision, X.T @ Y / NOISE**2), np.linalg.inv(precision))
    evidence = multivariate_normal(np.zeros(N), NOISE**2 * np.eye(N) + X @ X.T).logpdf(Y)
    for theta in np.asarray(at(target, shape=(3,))):
        value, gradient = target.value_and_grad(jnp.asarray(theta))
        np.testing.assert_allclose(value, posterior.logpdf(theta) + evidence, rtol=1e-10)
        np.testing.assert_allclose(gradient, -precision @ (theta - posterior.mean), rtol=1e-10)
        assert value.dtype == gradient.dtype == jnp.float64
    assert target.param_names == ("beta[1]", "beta[2]")


def series(y):
    decay = sample("decay", dist.Uniform(-1, 1))

    def step(level, observed):
        level = sample("level", dist.LogNormal(decay * level, 1))
        sample("y", dist.Normal(level, 1), obs=observed)
        return level, None

    scan(step, 0.0, y)


@pytest.mark.parametrize(
    ("model", "shapes_of_sites"),
    [
        (
            shapes,
            {
                "scale": (),
                "below": (),
                "weights": (2, 2),
                "rate": (),
                "cuts": (3,),
                "flat": (2,),
                "z_decentered": (),
            },
        ),
        (series, {"decay": (), "level": (4,)}),
    ],
)
def test_density_and_constrain_are_those_of_numpyro(model, shapes_of_sites):
    y = jnp.array([0.5, -0.2, 1.0, 0.4])
    target = from_numpyro(model, y)
    assert target.likelihood is None
    x = at(target, 3)
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes_of_sites.values()])
    assert ends[-1] == target.dim
    parts = zip(shapes_of_sites.items(), np.split(x, ends[:-1]), strict=True)
    sites = {name: part.reshape(shape) for (name, shape), part in parts}

    @jax.jit
    def numpyros(sites):
        value, gradient = jax.value_and_grad(potential_energy, 3)(model, (y,), {}, sites)
        constrained = constrain_fn(model, (y,), {}, sites)
        return value, *(
            jnp.concatenate([jnp.ravel(of[name]) for name in shapes_of_sites])
            for of in (gradient, constrained)
        )

    potential, gradient, constrained = numpyros(sites)
    own_value, own_gradient = jax.jit(target.value_and_grad)(x)
    np.testing.assert_allclose(own_value, -potential, rtol=1e-12)
    np.testing.assert_allclose(own_gradient, -gradient, rtol=1e-10)
    np.testing.assert_allclose(target.constrain(x), constrained, rtol=1e-12)


def test_parameters_lie_in_their_supports():
    target = from_numpyro(shapes, np.zeros(2))
    assert target.param_names[:5] == ("scale", "below", "weights[1,1]", "weights[1,2]", "weights[1,3]")
    assert target.param_names[8:] == (
        "rate",
        "cuts[1]",
        "cuts[2]",
        "cuts[3]",
        "flat[1]",
        "flat[2]",
        "z_decentered",
    )
    assert target.dim == len(target.param_names) - 2  # two simplexes have one coordinate less each
    x = np.asarray(at(target, shape=(4, 5)))
    draws = target.constrain(x)
    assert draws.shape == (4, 5, 15)
    np.testing.assert_allclose(draws[2, 3], target.constrain(x[2, 3]), rtol=1e-12)
    column = {name: draws[..., i] for i, name in enumerate(target.param_names)}
    np.testing.assert_allclose(column["scale"], np.exp(x[..., 0]), rtol=1e-12)
    assert np.all((column["below"] > 0) & (column["below"] < column["scale"]))
    np.testing.assert_allclose(draws[..., 2:8].reshape(4, 5, 2, 3).sum(-1), 1, rtol=1e-12)
    assert np.all(draws[..., 2:9] > 0)
    assert np.all(column["rate"] < 1)
    assert np.all(np.diff(draws[..., 9:12]) > 0)


def test_jacobian_of_a_positive_parameter():
    def model():
        sample("s", dist.Gamma(2.0, 3.0))

    target = from_numpyro(model, name="gamma")
    u = 0.4
    expected = stats.gamma.logpdf(np.exp(u), 2, scale=1 / 3) + u
    np.testing.assert_allclose(target.log_density(jnp.array([u])), expected, rtol=1e-12)
    assert (target.name, target.dim) == ("gamma", 1)


def test_failures_are_guarded():
    def model():
        a = sample("a", dist.Normal(0, 1))
        numpyro.factor("only above 0", jnp.log(a))

    value, gradient = from_numpyro(model).value_and_grad(jnp.array([-1.0]))
    assert value == -np.inf
    assert gradient == 0


def test_digest_follows_model_data_and_names_but_not_objects():
    def model(y, name="a", through_jit=None):
        a = sample(name, dist.Normal(0, 1))
        if through_jit is not None:  # a constant of a program inside of the program
            numpyro.factor("f", jax.jit(lambda s: jnp.sum(s * through_jit))(a))
        sample("y", dist.Normal(a, 1), obs=y)

    def digest(model, **kwargs):
        return from_numpyro(model, **kwargs).digest

    y = np.arange(3000.0)
    other = y.copy()
    other[1500] += 1e-9
    digests = [
        digest(model, y=y),
        digest(model, y=other),
        from_numpyro(lambda: model(y, name="b")).digest,
        digest(model, y=y, through_jit=y),
        digest(model, y=y, through_jit=other),
    ]
    assert len(set(digests)) == 5
    assert digest(lambda y: model(y.copy()), y=y) == digests[0]


# -- rows of a plate ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_minibatches_add_up_to_the_density(targets, name):
    target = targets[name]
    rows = target.likelihood
    assert (rows.n, rows.rows) == (N, "rows")
    theta = at(target, 1)
    value, gradient = target.value_and_grad(theta)
    batch = jax.jit(rows.value_and_grad_batch)
    order = np.random.default_rng(1).permutation(N)
    values, gradients = zip(*(batch(theta, order[i : i + 12]) for i in range(0, N, 12)), strict=True)
    np.testing.assert_allclose(np.mean(values), value, rtol=1e-11)
    np.testing.assert_allclose(np.mean(gradients, axis=0), gradient, rtol=1e-9)


@pytest.mark.parametrize("name", ["indexed", "numpyro.subsample"])
@pytest.mark.parametrize("indices", [[], [3], [5, 5, 1], [0] * N, list(range(N)) * 2 + [7]])
def test_any_rows_any_number_of_times(targets, name, indices):
    target = targets[name]
    theta = np.asarray(at(target, 2))
    scales = [NOISE] if name == "indexed" else [0.5, 2.0]
    expected = sum(norm(X[indices] @ theta, s).logpdf(Y[indices]).sum() for s in scales)
    got = jax.jit(target.likelihood.log_likelihood)(jnp.asarray(theta), jnp.asarray(indices, int))
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)
    prior = norm.logpdf(theta).sum()
    np.testing.assert_allclose(jax.jit(target.likelihood.log_prior)(theta), prior, rtol=1e-12)


def test_what_stands_outside_of_the_plate_is_the_prior(targets):
    mu, log_tau = 0.3, -0.4
    effect = np.array([0.1, 0.2, -1.0])
    theta = jnp.array([mu, log_tau, *effect])
    tau = np.exp(log_tau)
    expected = norm.logpdf(mu) + stats.halfnorm.logpdf(tau) + log_tau
    expected += norm.logpdf(effect, mu, tau).sum() + norm.logpdf(0.3, mu, 1)
    likelihood = targets["hierarchical"].likelihood
    np.testing.assert_allclose(jax.jit(likelihood.log_prior)(theta), expected, rtol=1e-12)
    rows = np.array([4, 9])
    first = norm.logpdf(Y[rows], effect[GROUP[rows]], 1).sum()
    second = -((X[rows, 0] - mu) ** 2).sum()
    np.testing.assert_allclose(
        jax.jit(likelihood.log_likelihood)(theta, rows), 0.5 * (first + second), rtol=1e-12
    )


def test_local_parameters_have_no_rows():
    assert from_numpyro(local, Y).likelihood is None
    with pytest.raises(FactorizationError, match=r"latent site 'z' stands in the plate 'rows'"):
        from_numpyro(local, Y, rows="rows")


def unsliced(x, y):
    beta = sample("beta", dist.Normal(0, 1).expand([P]).to_event(1))
    with numpyro.plate("rows", N, subsample_size=8):
        sample("y", dist.Normal(x @ beta, 1), obs=y)


def dependent(x, y):
    beta = sample("beta", dist.Normal(0, 1).expand([P]).to_event(1))
    with numpyro.plate("rows", N, subsample_size=8) as i:
        sample("y", dist.Normal((x[i] - x[i].mean(0)) @ beta, 1), obs=y[i])


def whole(x, y):
    beta = sample("beta", dist.Normal(0, 1).expand([P]).to_event(1))
    with numpyro.plate("rows", N):
        sample("y", dist.Normal(x @ beta, 1), obs=y)


@pytest.mark.parametrize(
    ("model", "rows", "message"),
    [
        (unsliced, None, "cannot be run on some of its rows: take every array of data"),
        (dependent, None, "not a sum over its rows"),
        (whole, "rows", "no subsample_size and so cannot be sliced"),
        (whole, "N", "no such plate; it has 'rows'"),
    ],
)
def test_what_is_no_sum_over_rows_is_refused(model, rows, message):
    with pytest.raises(FactorizationError, match=message):
        from_numpyro(model, X, Y, rows=rows)


def test_whole_plates_and_several_plates_ask_for_a_name():
    assert from_numpyro(whole, X, Y).likelihood is None

    def two(y, z):
        mu = sample("mu", dist.Normal(0, 1))
        for name, data in (("ys", y), ("zs", z)):
            with numpyro.plate(name, len(data), subsample_size=3) as i:
                sample(name[0], dist.Normal(mu, 1), obs=data[i])

    z = np.array([1.0, 2.0, 4.0, 3.0])
    assert from_numpyro(two, Y, z).likelihood is None
    likelihood = from_numpyro(two, Y, z, rows="zs").likelihood
    assert likelihood is not None
    expected = norm.logpdf(0.5) + norm.logpdf(Y, 0.5).sum()
    np.testing.assert_allclose(jax.jit(likelihood.log_prior)(jnp.array([0.5])), expected, rtol=1e-12)


# -- refusals and a run ---------------------------------------------------------------------------


def test_param_sites_keep_their_values():
    def model():
        sd = numpyro.param("sd", 3.0, constraint=dist.constraints.positive)
        sample("mu", dist.Normal(0, sd))

    target = from_numpyro(model)
    assert target.param_names == ("mu",)
    np.testing.assert_allclose(target.log_density(jnp.ones(1)), norm.logpdf(1, 0, 3), rtol=1e-12)


def test_models_that_cannot_be_unconstrained_are_refused():
    def discrete():
        k = sample("k", dist.Bernoulli(0.3).expand([2]).to_event(1))
        sample("x", dist.Normal(k.sum(), 1))

    def hidden():
        def step(carry, y):
            with numpyro.plate("parts", 4, subsample_size=2) as i:
                sample("y", dist.Normal(mu, 1), obs=y[i])
            return carry, None

        mu = sample("mu", dist.Normal(0, 1))
        scan(step, 0.0, jnp.ones((3, 4)))

    def nothing():
        sample("x", dist.Normal(0, 1), obs=0.0)

    for model, message in (
        (discrete, r"latent site 'k' is discrete \(Bernoulli"),
        (lambda: sample("x[0]", dist.Normal(0, 1)), r"site 'x\[0\]': brackets"),
        (lambda: sample("d", dist.Delta(1.0)), "latent site 'd' is a Delta"),
        (hidden, r"site 'y' stands in the plate 'parts' inside of numpyro's control flow"),
        (nothing, "no latent site"),
    ):
        with pytest.raises(ValueError, match=message):
            from_numpyro(model)


def test_nuts_finds_the_posterior(targets):
    target = targets["indexed"]
    run = NUTS().run(jax.random.key(0), target, Budget(4000), chains=2)
    precision = np.eye(P) + X.T @ X / NOISE**2
    mean = np.linalg.solve(precision, X.T @ Y / NOISE**2)
    sd = np.sqrt(np.diag(np.linalg.inv(precision)))
    draws = np.asarray(run.draws).reshape(-1, P)
    assert len(draws) > 500
    # at least 200 effective draws of some thousand that are nearly independent: 5 standard errors
    np.testing.assert_allclose(draws.mean(0), mean, atol=5 * np.max(sd) / np.sqrt(200))
    np.testing.assert_allclose(draws.std(0), sd, rtol=0.25)
