"""Programs and data in every form they come in, and what is said about wrong ones."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from counting import counts
from essper.models import StanDataError, StanProgramError, from_stan, last_error

SCALE = "data { real y; } parameters { real mu; } model { mu ~ normal(y, 1); }"


def test_program_as_text_and_as_path(tmp_path):
    path = tmp_path / "located.stan"
    path.write_text(SCALE)
    by_text, by_path = from_stan(SCALE, {"y": 2}), from_stan(path, {"y": 2})
    assert (by_text.name, by_path.name) == ("stan_model", "located")
    assert from_stan(str(path), {"y": 2}, name="mine").name == "mine"
    assert by_text.digest == by_path.digest
    assert float(by_path.log_density(jnp.zeros(1))) == -2.0


def test_data_in_every_form_are_the_same_data(tmp_path):
    path = tmp_path / "data.json"
    path.write_text('{"y": 2}')
    forms = [{"y": 2}, {"y": np.float64(2)}, {"y": jnp.asarray(2.0)}, '{ "y": 2.0 }', path, str(path)]
    targets = [from_stan(SCALE, form) for form in forms]
    assert {float(t.log_density(jnp.zeros(1))) for t in targets} == {-2.0}
    assert len({t.digest for t in targets}) == 1


def test_digest_tells_programs_and_data_apart(tmp_path):
    digests = [
        from_stan(program, {"y": y}).digest
        for program in (SCALE, SCALE.replace("normal(y, 1)", "normal(y, 2)"))
        for y in (2, 2.5)
    ]
    assert len(set(digests)) == 4


def test_includes_are_found_beside_the_program_and_part_of_the_digest(tmp_path):
    def included(folder, scale):
        folder.mkdir()
        (folder / "scale.stan").write_text(f"functions {{ real scale() {{ return {scale}; }} }}\n")
        (folder / "model.stan").write_text(
            "#include scale.stan\nparameters { real x; } model { x ~ normal(0, scale()); }"
        )
        return from_stan(folder / "model.stan")

    one, again, two = (included(tmp_path / f, s) for f, s in [("a", 1.0), ("b", 1.0), ("c", 2.0)])
    assert float(one.log_density(jnp.ones(1))) == -0.5
    assert one.digest == again.digest != two.digest


PLAIN = "parameters { real x; } model { x ~ normal(0, 1); }"


@pytest.mark.parametrize(
    ("files", "cycle"),
    [
        ({"a": "#include a.stan\n"}, "a.stan → a.stan"),
        ({"a": "#include b.stan\n", "b": '#include "./a.stan"\n'}, "a.stan → b.stan → a.stan"),
        (
            {"a": "#include b.stan\n", "b": "#include c.stan\n", "c": "#include b.stan\n"},
            "b.stan → c.stan → b.stan",
        ),
        ({"a": "#include model.stan\n"}, "a.stan → model.stan → a.stan"),
    ],
)
def test_includes_in_a_circle_are_named(tmp_path, files, cycle):
    files = files | {"model": f"#include a.stan\n{PLAIN}"}
    for name, text in files.items():
        (tmp_path / f"{name}.stan").write_text(text)
    with pytest.raises(StanProgramError, match="include each other in a circle: ") as caught:
        from_stan(tmp_path / "model.stan")
    assert str(caught.value).endswith(f": {cycle}")


def test_a_file_may_be_included_twice(tmp_path):
    (tmp_path / "prior.stan").write_text("x ~ normal(0, 1);\n")
    program = "parameters { real x; }\nmodel {\n#include prior.stan\n#include prior.stan\n}"
    (tmp_path / "model.stan").write_text(program)
    assert float(from_stan(tmp_path / "model.stan").log_density(jnp.ones(1))) == -1.0


def test_an_included_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "bytes.stan").write_bytes(b"\xff\xfe")
    (tmp_path / "model.stan").write_text(f"#include bytes.stan\n{PLAIN}")
    with pytest.raises(StanProgramError, match=r"bytes\.stan cannot be read"):
        from_stan(tmp_path / "model.stan")


def test_data_that_are_not_finite():
    program = """
data { array[3] real y; } parameters { real mu; }
model { mu ~ normal(is_inf(y[1]) + 2 * is_inf(y[2]) * (y[2] < 0) + 4 * is_nan(y[3]), 1); }
"""
    for data in ({"y": [np.inf, -np.inf, np.nan]}, '{"y": [Infinity, -Infinity, NaN]}'):
        assert float(from_stan(program, data).log_density(jnp.full(1, 7.0))) == 0.0


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("parameters { real x } model { }", "rejects the program 'broken'(.|\n)*Expected \";\""),
        ("parameters { real x; } model { x ~ nomal(0, 1); }", "rejects the program 'broken'(.|\n)*nomal"),
        ("model { }", "has no parameters"),
        ("no/such/file.stan", "no Stan program at 'no/such/file.stan'"),
    ],
)
def test_program_errors(program, message):
    with pytest.raises(StanProgramError, match=message):
        from_stan(program, name="broken")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "unknown"),
        ({"N": 2}, "unknown data variable y"),
        ({"N": 2, "y": [1.0]}, "mismatch in dimension(.|\n)*variable name=y"),
        ({"N": 0, "y": []}, "must be greater than or equal to 1"),
        ('{"N": 2, ', "the text given"),
        ("missing.json", "the file missing.json"),
        (3, "a mapping, JSON text, or"),
        ("data.json", "no JSON object: list"),
    ],
)
def test_data_errors(tmp_path, monkeypatch, data, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.json").write_text("[1, 2]")
    program = "data { int<lower=1> N; vector[N] y; } parameters { real m; } model { y ~ normal(m, 1); }"
    with pytest.raises(StanDataError, match=message) as caught:
        from_stan(program, data, name="demanding")
    assert "'demanding'" in str(caught.value)


def test_choices_that_do_not_exist():
    with pytest.raises(ValueError, match="backend='tpu' is not supported: use 'auto', 'bridgestan' or 'jax'"):
        from_stan(SCALE, {"y": 1}, "tpu")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="ffi='fast' is not supported"):
        from_stan(SCALE, {"y": 1}, ffi="fast")  # pyright: ignore[reportArgumentType]
    with pytest.raises(StanProgramError, match="is neither 'auto', 'stanli' nor 'build'"):
        from_stan(SCALE, {"y": 1}, bridgestan="nowhere")


def test_compiled_library_as_program(toy, tmp_path):
    path, _ = toy(name="compiled")
    target = from_stan(path)
    assert (target.name, target.dim, target.param_names) == ("compiled", 2, ("x[1]", "x[2]"))
    value, gradient = target.value_and_grad(jnp.array([1.0, 2.0]))
    assert float(value) == -2.5
    np.testing.assert_array_equal(gradient, [-1.0, -2.0])
    elsewhere = tmp_path / "elsewhere" / "other_model.so"
    elsewhere.parent.mkdir()
    shutil.copy(path, elsewhere)
    assert from_stan(elsewhere).digest == target.digest  # the file, wherever it lies
    with pytest.raises(StanDataError, match="bad data"):
        from_stan(path, {"bad": 1})


def test_library_that_cannot_be_used(tmp_path, toy):
    rubbish = tmp_path / "rubbish_model.so"
    rubbish.write_text("not a library")
    with pytest.raises(StanProgramError, match=r"no BridgeStan library that can be loaded"):
        from_stan(rubbish)
    path, _ = toy(name="first")
    from_stan(path)
    other, _ = toy(name="second", threads=False)
    path.unlink()
    shutil.copy(other, path)
    with pytest.raises(StanProgramError, match="has changed since this process loaded it"):
        from_stan(path)


def test_library_for_a_program_given_as_text(toy):
    path, _ = toy()
    target = from_stan(SCALE, {"y": 1}, bridgestan=path)
    assert target.dim == 2
    assert target.digest == from_stan(SCALE, {"y": 1}).digest


@pytest.mark.parametrize("way", ["folder", "build", "auto"])
def test_bridgestans_own_build(fake_bridgestan, tmp_path, monkeypatch, way):
    monkeypatch.setenv("ESSPER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BRIDGESTAN", raising=False)
    if way != "folder":
        monkeypatch.setenv("BRIDGESTAN", str(fake_bridgestan))
    how = fake_bridgestan if way == "folder" else way
    target = from_stan(SCALE, {"y": 1}, bridgestan=how, ffi="callback")
    assert target.dim == 2
    assert "BridgeStan" in target.backend
    (library,) = (tmp_path / "cache" / "programs").iterdir()
    built = library.stat().st_mtime_ns
    from_stan(SCALE, {"y": 2}, bridgestan=how, ffi="callback")
    assert library.stat().st_mtime_ns == built
    with pytest.raises(StanProgramError, match=r"cannot build the program 'w'(.|\n)*Semantic error: wrong"):
        from_stan("parameters { real wrong; }", bridgestan=how, name="w", ffi="callback")


def test_names_and_order_of_shaped_parameters(programs, ffi):
    target = from_stan(programs.shaped, {"K": 3}, ffi=ffi)
    assert target.dim == 6 + 2 + 1
    matrix = tuple(f"A[{i},{j}]" for j in (1, 2, 3) for i in (1, 2))  # column by column
    assert target.param_names == (*matrix, "s[1]", "s[2]", "s[3]", "tau", "m[1]", "m[2]")


def test_constrain_over_any_leading_axes(programs, ffi):
    target = from_stan(programs.shaped, {"K": 3}, ffi=ffi)
    x = np.random.default_rng(2).normal(size=(4, 5, 9))
    got = target.constrain(x)
    assert got.shape == (4, 5, 12)
    for lane in np.ndindex(4, 5):
        np.testing.assert_array_equal(got[lane], target.model.param_constrain(x[lane], include_tp=True))
    np.testing.assert_array_equal(target.constrain(x[0, 0]), got[0, 0])
    np.testing.assert_array_equal(target.constrain(jnp.asarray(x)), got)
    np.testing.assert_array_equal(target.constrain(x[:, ::2]), got[:, ::2])
    assert target.constrain(x[:0]).shape == (0, 5, 12)
    matrix, simplex = got[..., :6].reshape(4, 5, 3, 2), got[..., 6:9]
    np.testing.assert_allclose(simplex.sum(-1), 1.0)
    np.testing.assert_allclose(got[..., 10:], (simplex[..., None] * matrix).sum(-2))
    assert counts(target) == (0, 0, 0)
    with pytest.raises(ValueError, match=r"shape \[\.\.\., 9\], got \(4, 5, 8\)"):
        target.constrain(x[..., :8])


def test_constrain_gives_nan_where_stan_throws(programs, ffi):
    target = from_stan(programs.shaped, {"K": 3}, ffi=ffi)
    x = np.zeros((3, 9))
    x[1, 8] = 10.0  # tau = exp(10) > 100
    got = target.constrain(x)
    assert np.isnan(got[1]).all()
    assert np.isfinite(got[[0, 2]]).all()
    assert last_error(target).startswith("tau is ")


def test_data_file_with_numbers_of_full_precision(tmp_path):
    y = 0.1 + 1e-17 + 1 / 3
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"y": y}))
    assert float(from_stan(SCALE, path).log_density(jnp.zeros(1))) == -0.5 * y * y
