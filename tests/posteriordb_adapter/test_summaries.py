"""Published means and mean squares."""

import numpy as np
import pytest
from essper.posteriordb_adapter import CorruptDatabase, MissingReference, read_summary

FILE = "reference_posteriors/summary_statistics/{0}/{0}/toy-prior.json"


@pytest.mark.parametrize(
    ("statistic", "key"),
    [
        ("mean_value", "mean_value"),
        ("mean_squared_value", "mean_squared_value"),
        ("mean_squared_value", "mean_squared_value."),
    ],
)
@pytest.mark.parametrize("values", [[1.5, -2], ["1.5", "-2"]])
def test_both_published_forms(layer, statistic, key, values):
    layer.json(FILE.format(statistic), {"names": ["mu", "tau"], key: values, "mcse_mean": [0.1, 0.2]})
    summary = read_summary(layer.database().layers, "toy-prior", statistic)
    assert summary.names == ("mu", "tau")
    np.testing.assert_array_equal(summary.values, [1.5, -2.0])
    assert summary.mcse is not None
    np.testing.assert_array_equal(summary.mcse, [0.1, 0.2])


def test_one_parameter_may_be_unboxed(layer):
    layer.json(FILE.format("mean_value"), {"names": "mu", "mean_value": 3})
    summary = read_summary(layer.database().layers, "toy-prior", "mean_value")
    assert (summary.names, summary.values.tolist(), summary.mcse) == (("mu",), [3.0], None)


@pytest.mark.parametrize(
    "record",
    [
        {"names": ["mu", "tau"], "mean_value": [1]},
        {"names": ["mu"], "mean_value": ["a"]},
        {"names": ["mu"], "mean_value": [None]},
        {"names": ["mu"]},
        {"names": ["mu"], "mean_value": [1], "mcse_mean": [1, 2]},
    ],
)
def test_broken_summaries_are_corrupt(layer, record):
    layer.json(FILE.format("mean_value"), record)
    with pytest.raises(CorruptDatabase, match="mean"):
        read_summary(layer.database().layers, "toy-prior", "mean_value")


def test_missing_summary(layer):
    with pytest.raises(MissingReference, match="mean_value"):
        read_summary(layer.database().layers, "toy-prior", "mean_value")


def test_summaries_of_posteriordb_are_those_of_its_draws(posteriordb):
    reference = posteriordb.posterior("arK-arK").reference()
    published = (
        read_summary(posteriordb.layers, "arK-arK", "mean_value"),
        read_summary(posteriordb.layers, "arK-arK", "mean_squared_value"),
    )
    for power, summary in enumerate(published, start=1):
        assert summary.mcse is not None
        means = (reference.select(summary.names).draws ** power).mean((0, 1))
        assert np.all(np.abs(summary.values - means) < 6 * summary.mcse)
