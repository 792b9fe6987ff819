"""Names of parameters in their two spellings, and columns gathered by them."""

import numpy as np
import pytest
from essper.models.names import from_dots, named_arrays, split_name, to_dots


@pytest.mark.parametrize(
    ("dots", "brackets"),
    [("mu", "mu"), ("theta.1", "theta[1]"), ("a_b.10.2.3", "a_b[10,2,3]"), ("z.real", "z.real")],
)
def test_spellings(dots, brackets):
    assert from_dots(dots) == brackets
    assert to_dots(brackets) == dots


def test_split_name():
    assert split_name("theta[1,12]") == ("theta", (1, 12))
    assert split_name("mu") == ("mu", ())
    with pytest.raises(ValueError, match="is no parameter name"):
        split_name("theta[1")


def test_named_arrays_gathers_columns_by_their_index():
    names = ["A[1,1]", "A[2,1]", "mu", "A[1,2]"]  # Stan's order, column by column; A[2,2] not mentioned
    draws = np.arange(12.0).reshape(3, 4)
    arrays = named_arrays(names, draws)
    assert list(arrays) == ["A", "mu"]
    np.testing.assert_array_equal(arrays["mu"], draws[:, 2])
    np.testing.assert_array_equal(arrays["A"][0], [[0.0, 3.0], [1.0, np.nan]])
    assert arrays["A"].shape == (3, 2, 2)
