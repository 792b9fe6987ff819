"""Groups, ranks and ratios, against hand calculation and scipy."""

import json

import numpy as np
import pytest
from essper.benchmarks.comparison import Comparison, Summary, compare, comparison_to_dict
from records import TRUST_NEITHER, make_accuracy, make_curve, make_failure, make_fits, make_record
from scipy import stats

WITH_WARMUP = "ess_bulk_per_gradient_with_warmup.min"


def find(comparison: Comparison, label: str) -> Summary:
    (summary,) = [summary for summary in comparison.summaries if summary.label == label]
    return summary


def test_seeds_are_grouped_and_ranked_on_efficiency_with_warmup():
    records = [make_record(sampler="nuts", seed=seed, ess=ess) for seed, ess in enumerate([2000, 2400])]
    records += [make_record(sampler="hmc", seed=seed, ess=ess) for seed, ess in enumerate([3000, 3100])]
    comparison = compare(records)
    nuts, hmc = find(comparison, "nuts"), find(comparison, "hmc")
    assert comparison.baseline == "nuts"
    assert nuts.seeds == (0, 1)
    assert nuts.metrics[WITH_WARMUP].value == pytest.approx(np.sqrt(2000 * 2400) / 100000)
    assert nuts.metrics["ess_bulk_per_gradient.min"].value == pytest.approx(np.sqrt(2000 * 2400) / 80000)
    assert (nuts.rank, hmc.rank) == (2, 1)
    assert nuts.gradients == {"warmup": 20000, "sampling": 80000, "total": 100000}
    assert (nuts.rhat_max, nuts.max_abs_z) == (1.003, 2.0)


@pytest.mark.parametrize("status", ["biased", "not converged", "unverified"])
def test_only_ok_is_ranked_however_fast(status):
    records = [make_record(sampler="nuts", seed=seed) for seed in (0, 1)]
    records += [
        make_record(sampler="fast", seed=0, ess=9e4),
        make_record(sampler="fast", seed=1, status=status),
    ]
    comparison = compare(records)
    fast = find(comparison, "fast")
    assert fast.rank is None
    assert fast.reason
    assert fast.status_text == f"ok 1/2, {status} 1/2"
    assert find(comparison, "nuts").rank == 1
    (overall,) = [one for one in comparison.overall if one.metric == WITH_WARMUP]
    assert overall.estimate.value is None
    assert overall.excluded == (fast.posterior,)
    (shown,) = [one for one in comparison.ratios if one.metric == WITH_WARMUP]
    assert not shown.both_ok
    assert shown.estimate.value is not None


def test_the_worst_status_names_the_group():
    records = [make_record(seed=0), make_record(seed=1, status="biased"), make_failure(seed=2)]
    (summary,) = compare(records).summaries
    assert summary.status == "failed"
    assert summary.status_text == "ok 1/3, biased 1/3, failed 1/3"
    assert dict(summary.statuses) == {"ok": 1, "biased": 1, "failed": 1}


def test_gradient_free_samplers_have_no_rank_but_ess_per_density():
    comparison = compare([make_record(), make_record(sampler="gibbs", gradient_free=True)])
    gibbs = find(comparison, "gibbs")
    assert gibbs.metrics[WITH_WARMUP].value is None
    assert gibbs.metrics["ess_bulk_per_density.min"].value == pytest.approx(2000 / 80000)
    assert gibbs.rank is None
    assert "density" in (gibbs.reason or "")


@pytest.mark.parametrize(
    ("field", "values", "suffix"),
    [
        ("budget", (1000, 20000), "budget {}"),
        ("chains", (2, 4), "chains {}"),
        ("precision", ("float32", "float64"), "precision {}"),
        ("layout", ("independent", "lockstep"), "layout {}"),
    ],
)
def test_settings_are_never_averaged_together(field, values, suffix):
    records = [make_record(seed=seed, **{field: value}) for value in values for seed in (0, 1)]
    comparison = compare(records)
    assert [summary.seeds for summary in comparison.summaries] == [(0, 1), (0, 1)]
    assert {summary.label for summary in comparison.summaries} == {
        f"nuts ({suffix.format(value)})" for value in values
    }


def test_backends_are_told_apart_whatever_their_details_and_whether_a_record_says_so():
    old = make_failure(seed=2)
    del old["backend"]  # from before there was a choice
    records = [
        make_record(seed=0, backend="bridgestan (stanli 0.24.0, ffi)"),
        make_record(seed=1, backend="bridgestan (BridgeStan 2.9.0, callback)"),
        make_record(seed=0, backend="jax (lowered, float64)"),
        make_failure(seed=1, backend="jax"),
    ]
    seeds = {summary.label: summary.seeds for summary in compare([*records, old]).summaries}
    assert seeds == {"nuts (backend bridgestan)": (0, 1, 2), "nuts (backend jax)": (0, 1)}


def test_configurations_under_one_label_are_told_apart():
    other = {"name": "nuts", "label": "nuts", "config": {"target_acceptance": 0.95}}
    comparison = compare([make_record(), make_record(sampler="hmc"), make_record() | {"sampler": other}])
    assert len(comparison.summaries) == 3
    assert len({summary.label for summary in comparison.summaries}) == 3


def test_ranks_and_ratios_need_equal_budgets():
    records = [make_record(sampler="nuts", budget=1000, ess=9000), make_record(sampler="nuts", ess=1000)]
    records += [make_record(sampler="hmc", ess=500)]
    comparison = compare(records)
    assert find(comparison, "nuts (budget 1000)").rank == 1
    assert find(comparison, "nuts (budget 100000)").rank == 1
    assert find(comparison, "hmc (budget 100000)").rank == 2
    (shown,) = [one for one in comparison.ratios if one.metric == WITH_WARMUP]
    assert shown.baseline == "nuts (budget 100000)"
    assert shown.estimate.value == pytest.approx(0.5)


def test_a_failed_cell_joins_the_seeds_that_ran():
    (summary,) = compare([make_record(seed=0), make_failure(seed=1)]).summaries
    assert summary.status_text == "ok 1/2, failed 1/2"


def test_a_seed_counts_once_and_the_newest_is_kept():
    old = make_record(ess=100.0, created="2025-01-01T00:00:00+00:00")
    comparison = compare([make_record(ess=2000.0), old])
    (summary,) = comparison.summaries
    assert summary.metrics["ess_bulk.min"].values == (2000.0,)
    assert "share a seed" in comparison.notes[0]


def test_the_overall_ratio_is_a_geometric_mean_with_an_interval_over_posteriors():
    ratios = {"a": 0.5, "b": 0.8, "c": 2.0}
    records = [make_record(posterior, "nuts", ess=1000) for posterior in ratios]
    records += [make_record(posterior, "hmc", ess=1000 * value) for posterior, value in ratios.items()]
    records += [make_record("d", "nuts"), make_record("d", "hmc", status="biased")]
    (overall,) = [one for one in compare(records).overall if one.metric == WITH_WARMUP]
    logs = np.log(list(ratios.values()))
    low, high = stats.t.interval(0.95, 2, loc=logs.mean(), scale=stats.sem(logs))
    assert overall.estimate.value == pytest.approx(np.exp(logs.mean()))
    assert (overall.estimate.low, overall.estimate.high) == pytest.approx((np.exp(low), np.exp(high)))
    assert (overall.posteriors, overall.excluded) == (("a", "b", "c"), ("d",))


def test_baselines():
    records = [make_record(sampler="b"), make_record(sampler="a")]
    assert compare(records).baseline == "a"
    assert compare(records, baseline="b").baseline == "b"
    with pytest.raises(ValueError, match="Choose one of: a, b"):
        compare(records, baseline="c")


def test_nothing_to_compare_says_what_to_do():
    with pytest.raises(ValueError, match="Run some cells"):
        compare([])


def test_the_median_curve_is_interpolated_in_log_gradients():
    def power_law(start: float, factor: float):
        gradients = np.geomspace(start, 1e4, 9)
        values = {"average": (factor / gradients).tolist(), "maximum": (2 * factor / gradients).tolist()}
        return {"gradients": gradients.tolist(), "b2_mean": values, "b2_square": values, "noise_floor": 1e-3}

    starts_and_factors = [(100, 1.0), (200, 3.0), (150, 10.0)]
    records = [
        make_record(seed=seed, error_curve=power_law(*one)) for seed, one in enumerate(starts_and_factors)
    ]
    (summary,) = compare(records).summaries
    curve = summary.curve
    assert curve is not None
    assert (curve.gradients[0], curve.gradients[-1], curve.seeds) == (200, 10000, 3)
    # A power law is a straight line there, so that interpolating is exact.
    grid = np.array(curve.gradients)
    for name, factor in (("median", 3.0), ("low", 1.0), ("high", 10.0)):
        assert np.array(curve.series["mean.average"][name]) == pytest.approx(factor / grid, rel=1e-3)


def test_curves_with_gaps_stay_finite():
    broken = make_curve(0, 2000, 0.0)
    broken["b2_mean"] = {"average": [None, 0.0, *broken["b2_mean"]["average"][2:]], "maximum": [None] * 12}
    (summary,) = compare([make_record(error_curve=broken)]).summaries
    assert summary.curve is not None
    assert summary.curve.series["mean.average"]["median"][:3].count(None) == 2
    assert set(summary.curve.series["mean.maximum"]["median"]) == {None}


def test_errors_below_the_noise_of_the_reference_tie():
    records = [
        make_record(sampler="nuts", ess=1e6),
        make_record(sampler="hmc", ess=2e6),
        make_record(sampler="sgld", status="biased"),
    ]
    comparison = compare(records)
    assert [find(comparison, label).error_rank for label in ("nuts", "hmc", "sgld")] == [1, 1, 3]


def test_approximate_samplers_are_ranked_on_error_and_nothing_else():
    jax = {"approximate": True, "backend": "jax (lowered, float64)"}
    records = [
        make_record(sampler="hmc", ess=500.0),
        make_record(sampler="nuts", ess=1000.0),
        make_record(sampler="asgld", ess=9e4, **jax),  # passes the gates
        make_record(sampler="sgld", status="biased", **jax),
        make_failure(sampler="sghmc", approximate=True, backend="jax"),
    ]
    comparison = compare(records)
    # One table, although minibatches need another backend: no label says so.
    assert set(comparison.labels) == {"hmc", "nuts", "asgld", "sgld", "sghmc"}
    ranks = {summary.label: (summary.rank, summary.error_rank) for summary in comparison.summaries}
    assert ranks == {
        "nuts": (1, 2),
        "hmc": (2, 3),
        "asgld": (None, 1),
        "sgld": (None, 4),
        "sghmc": (None, None),
    }
    reasons = {label: find(comparison, label).reason for label in ("asgld", "sgld", "sghmc")}
    assert reasons == dict.fromkeys(("asgld", "sgld"), "approximate: ranked on error") | {
        "sghmc": "a run failed"
    }
    assert {one.label for one in comparison.ratios} == {"hmc"}
    assert [one.label for one in comparison.overall if one.metric == WITH_WARMUP] == ["hmc"]
    assert compare(records, baseline="sgld").ratios == ()
    assert compare([records[2], records[0]]).baseline == "hmc"


def test_a_backend_of_its_own_sets_an_approximate_sampler_apart_from_itself():
    records = [
        make_record(sampler="nuts", seed=seed, backend=one) for seed, one in enumerate(("jax", "bridgestan"))
    ]
    records += [make_record(sampler="sgld", backend="jax", approximate=True)]
    labels = compare(records).labels
    assert set(labels) == {"nuts (backend jax)", "nuts (backend bridgestan)", "sgld"}


def test_distances_are_summarised_with_their_floors():
    records = [make_record(ess=1000.0, seed=0), make_record(seed=1, distances=None)]
    (summary,) = compare(records).summaries
    assert summary.metrics["w1.maximum"].values == (0.03,)
    assert summary.floors.items() >= {
        "w1.average": 0.01, "w1.maximum": 0.02, "sliced_w1": 0.015, "ksd": 0.04
    }.items()  # fmt: skip
    (summary,) = compare([make_record(distances=None, accuracy=None)]).summaries
    assert summary.metrics["ksd"].value is summary.metrics["sd_error.maximum"].value is None
    assert set(summary.floors.values()) == {None}


def test_errors_of_estimates_are_summarised():
    records = [make_record(seed=seed, accuracy=make_accuracy(e, 0.03)) for seed, e in enumerate((0.1, 0.4))]
    (summary,) = compare(records).summaries
    assert summary.metrics["mean_error.maximum"].value == pytest.approx(0.2)
    assert summary.metrics["quantile_error.average"].value == pytest.approx(0.1)
    assert summary.metrics["coverage_90"].value == pytest.approx(0.75 * 0.9)
    assert summary.metrics["coverage_90"].high is None  # a share's interval must not reach beyond 1
    assert summary.floors["sd_error.maximum"] == 0.03
    assert "coverage_90" not in summary.floors


def test_fits_are_summarised_over_chains_and_seeds():
    fits = [make_fits(khat=0.3, w1=0.02, elbo=-30.0), make_fits(khat=0.6, w1=0.04, elbo=-32.0)]
    records = [
        make_record(sampler="fvi", status="biased", seed=seed, approximate=True, variational=one)
        for seed, one in enumerate(fits)
    ]
    (summary, nuts) = compare([*records, make_record()], baseline="fvi").summaries
    assert nuts.variational is None
    found = summary.variational
    assert found is not None
    assert (found["khat"], found["usable"], found["fits"], found["converged"]) == (0.6, True, 8, 6)
    assert found["elbo"] == pytest.approx(-31)
    assert found["elbo_range"] == pytest.approx([-32.02, -29.98])
    assert found["elbo_error"] == pytest.approx(0.012 / np.sqrt(8))
    # W₁ is 0.3 as it is, √(0.02 · 0.04) weighted, and noise is 0.02.
    assert found["note"] == (
        "importance resampling would reduce the error: largest W₁ 0.3 → 0.028 (noise 0.02), k-hat 0.60"
    )
    records[1]["variational"] = make_fits(khat=0.9)
    found = compare(records).summaries[0].variational
    assert found is not None
    assert not found["usable"]
    assert found["note"] == f"k-hat 0.90 is above 0.67: {TRUST_NEITHER}"


def test_fits_without_a_bound_or_weights_say_so():
    fits = make_fits()
    fits["elbo"][2] = fits["elbo_error"][2] = None
    fits["khat"] |= {
        "values": [0.1, 0.2, None, 0.1],
        "maximum": None,
        "usable": False,
        "reason": "chain 3: no",
    }
    fits |= {"converged": None, "resampled": None}
    record = make_record(sampler="fvi", approximate=True, variational=fits)
    found = compare([record]).summaries[0].variational
    assert found is not None
    assert found["elbo"] is found["elbo_error"] is found["elbo_range"] is found["khat"] is None
    assert found["converged"] is None
    assert found["note"] == "no importance weights to trust: chain 3: no"


def test_runs_that_pay_before_the_first_draw_have_curves_of_one_point():
    def point(gradients: float, error: float) -> dict:
        both = {"average": [error], "maximum": [2 * error]}
        return {"gradients": [gradients], "b2_mean": both, "b2_square": both, "noise_floor": 1e-4}

    records = [make_record(seed=seed, error_curve=point(900.0 * 4**seed, 0.1 * 4**seed)) for seed in (0, 1)]
    (summary,) = compare(records).summaries
    assert summary.curve is not None
    assert summary.curve.gradients == (1800.0,)
    assert summary.curve.series["mean.maximum"] == {"median": (0.5,), "low": (0.2,), "high": (0.8,)}
    (one,) = compare(records[:1]).summaries
    assert one.curve is not None
    assert (one.curve.gradients, one.curve.series["mean.average"]["low"]) == ((900.0,), (0.1,))
    (free,) = compare([make_record(error_curve=point(0.0, 0.1))]).summaries
    assert free.curve is None  # no logarithm of no gradients
    assert free.metrics["b2_final.mean"].value == pytest.approx(0.1)


def test_gradients_to_b2_are_averaged_only_where_every_seed_got_there():
    reached = {"threshold": 0.01, "mean": 4000.0, "square": 9000.0}
    missed = {"threshold": 0.01, "mean": 9000.0, "square": None}
    records = [make_record(seed=0, gradients_to_b2=reached), make_record(seed=1, gradients_to_b2=missed)]
    (summary,) = compare(records).summaries
    assert summary.gradients_to_b2["mean"]["estimate"].value == pytest.approx(6000.0)
    assert summary.gradients_to_b2["square"]["estimate"].value is None
    assert summary.gradients_to_b2["square"]["reached"] == 1


def test_the_dictionary_is_plain_json():
    records = [make_record(), make_record(sampler="hmc", ess=0.0), make_failure(sampler="gibbs")]
    shown = comparison_to_dict(compare(records))
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert [group["label"] for group in shown["summaries"]] == ["nuts", "gibbs", "hmc"]
