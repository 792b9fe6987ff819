"""Sampler specs: every configuration survives its label, its JSON and a process's end."""

import dataclasses
import json
import pickle
import typing
from typing import ClassVar, Literal

import pytest
from essper.benchmarks.specs import SAMPLERS, SpecError, from_config, parse_spec
from hypothesis import assume, given, settings
from hypothesis import strategies as st


def options(cls: typing.Any) -> dict[str, typing.Any]:
    """Type hint of every option, by walking the configuration independently of the parser."""
    found = {}
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        found |= options(hint) if dataclasses.is_dataclass(hint) else {field.name: hint}
    return found


def texts(hint: typing.Any) -> st.SearchStrategy[str]:
    """How a value of a type may be written."""
    if typing.get_origin(hint) is typing.Literal:
        return st.sampled_from(typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        several = st.lists(texts(typing.get_args(hint)[0]), min_size=1, max_size=4)
        return st.builds(lambda sep, parts: sep.join(parts), st.sampled_from(["/", " / "]), several)
    if arms := [arm for arm in typing.get_args(hint) if arm is not type(None)]:
        return st.one_of(st.sampled_from(["none", "None"]), texts(arms[0]))
    if hint is bool:
        return st.sampled_from(["true", "false", "True", "False"])
    if hint is int:
        return st.integers(0, 5000).map(str)
    if hint is float:
        return st.one_of(st.floats(1e-6, 0.999), st.floats(1.001, 50)).map(repr)
    return st.sampled_from(["velocity_verlet", "mclachlan"])  # the one string that is not a Literal


@st.composite
def specs(draw) -> str:
    name = draw(st.sampled_from(sorted(SAMPLERS)))
    hints = options(SAMPLERS[name])
    keys = draw(st.lists(st.sampled_from(sorted(hints)), unique=True, max_size=4))
    space = draw(st.sampled_from(["", " "]))
    return f"{name}[{','.join(f'{space}{key}{space}={space}{draw(texts(hints[key]))}' for key in keys)}]"


@settings(deadline=None)  # other work on the machine is no failure
@given(specs())
def test_label_config_and_pickle_round_trip(text):
    try:
        spec = parse_spec(text)
    except SpecError as error:
        assume("give" not in str(error) and "needed" not in str(error))  # out of the sampler's own bounds
        raise
    assert parse_spec(spec.label) == spec
    assert parse_spec(spec.label).label == spec.label
    stored = json.loads(json.dumps(spec.config, allow_nan=False))
    assert from_config(spec.name, stored) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_defaults_have_the_shortest_label(name):
    assert parse_spec(name).label == parse_spec(f" {name.upper()}[] ").label == name
    assert parse_spec(name).sampler == SAMPLERS[name]()


def test_label_holds_what_differs_from_the_defaults_and_nothing_else():
    assert (
        parse_spec("hmc[target_acceptance=0.80,metric=dense, jitter=0]").label
        == "hmc[jitter=0.0,metric=dense]"
    )
    assert parse_spec("hmc[jitter=0,metric=dense]") == parse_spec("hmc[metric=dense,jitter=0.0]")


def test_options_of_nested_configurations_reach_them():
    sampler = parse_spec("drhmc[stages=2,num_integration_steps=7,step_size=0.25,metric=dense]").sampler
    assert (sampler.stages, sampler.trajectory.num_integration_steps) == (2, 7)
    assert (sampler.adaptation.step_size, sampler.adaptation.metric) == (0.25, "dense")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gradient descent", "write NAME or NAME"),
        ("nuts[", "write NAME or NAME"),
        ("", "write NAME or NAME"),
        ("walnut", "no sampler is called 'walnut'; there are nuts, hmc, drhmc"),
        (
            "hmc[stages=2]",
            "hmc has no option 'stages'; its options are integration_time, .*step_size",
        ),
        ("hmc[jitter]", "'jitter' is no key=value"),
        ("hmc[jitter=0.1,jitter=0.2]", "'jitter' is given twice"),
        ("hmc[jitter=much]", "jitter='much' is no float"),
        ("hmc[num_warmup=1.5]", "num_warmup='1.5' is no int"),
        ("hmc[metric=round]", "metric='round': give one of diagonal, dense, identity"),
        ("hmc[target_acceptance=2]", r"sampler hmc: target_acceptance=2.0: give a value in \(0, 1\)"),
        ("hmc[integration_time=inf]", "integration_time='inf' is no finite number"),
        ("drhmc[reduction=nan]", "reduction='nan' is no finite number"),
        ("gibbs[updates=slice]", "sampler gibbs: updates cannot be written here; give it in Python"),
        ("gibbs[scan=weighted]", "sampler gibbs: weights are needed by scan='weighted'"),
    ],
)
def test_errors_say_what_there_is(text, message):
    with pytest.raises(SpecError, match=message):
        parse_spec(text)


def test_several_values_of_one_option_stand_between_slashes():
    spec = parse_spec("fvi[learning_rates=0.010/1e-1, samples=4]")
    assert spec.sampler.fitting.learning_rates == (0.01, 0.1)
    assert spec.label == "fvi[samples=4,learning_rates=0.01/0.1]"
    assert spec.config["fitting"]["learning_rates"] in ((0.01, 0.1), [0.01, 0.1])
    stored = json.loads(json.dumps(spec.config))
    assert from_config("fvi", stored) == spec
    assert hash(from_config("fvi", stored).sampler) == hash(spec.sampler)  # programs are kept by sampler
    assert parse_spec("fvi[learning_rates=0.05]").sampler.fitting.learning_rates == (0.05,)
    weighted = parse_spec("gibbs[scan=weighted,weights=1/2]")
    assert from_config("gibbs", json.loads(json.dumps(weighted.config))) == weighted
    given = parse_spec("avi[learning_rates=0.003/0.01/0.03/0.1/0.3,width=16]")
    assert given.label == "avi"
    for text, message in (
        ("fvi[learning_rates=0.1/]", "learning_rates='' is no float"),
        ("fvi[learning_rates=0.1/fast]", "learning_rates='fast' is no float"),
        ("fvi[learning_rates=0.1/-1]", "give at least one, all positive"),
        ("fvi[learning_rates=nan]", "no finite number"),
        ("avi[width=0]", "sampler avi: width=0"),
        ("flow-vi[rank=2]", "flow-vi has no option 'rank'"),
        ("dsgld[members=0/1]", "members='0/1': lists of lists cannot be written here"),
    ):
        with pytest.raises(SpecError, match=message):
            parse_spec(text)


def test_variational_specs_say_what_they_need():
    for name in ("fvi", "fullrank-vi", "lowrank-vi", "flow-vi"):
        spec = parse_spec(name)
        assert (spec.approximate, spec.needs_hierarchy, spec.hierarchy) == (True, False, None)
    for name in ("avi", "constant-vi"):
        spec = parse_spec(name)
        assert (spec.approximate, spec.needs_hierarchy, spec.hierarchy) == (True, True, "auto")
        assert parse_spec(f"{name}[hierarchy=J]").hierarchy == "J"
    assert not parse_spec("nuts").needs_hierarchy


@dataclasses.dataclass(frozen=True)
class Minibatches:
    batch: int = 64
    estimator: Literal["minibatch", "svrg"] = "minibatch"
    step_size: float | None = None
    epochs: Literal[1, 2] | None = None
    rows: str | None = None

    approximate: ClassVar[bool] = True
    needs_rows: ClassVar[bool] = True


@dataclasses.dataclass(frozen=True)
class Reduced(Minibatches):
    estimator: Literal["minibatch", "svrg"] = "svrg"


@pytest.fixture
def minibatches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SAMPLERS, "some-sg", Minibatches)
    monkeypatch.setitem(SAMPLERS, "some-sg-vr", Reduced)


@pytest.mark.usefixtures("minibatches")
def test_flat_configurations_and_aliases_with_other_defaults():
    spec = parse_spec("some-sg[batch=10, step_size=1e-4, epochs=2, rows=N, estimator=svrg]")
    assert spec.sampler == Minibatches(10, "svrg", 1e-4, 2, "N")
    assert parse_spec(spec.label) == from_config("some-sg", spec.config) == spec
    assert parse_spec("some-sg-vr[step_size=none,epochs=None,rows=none]").label == "some-sg-vr"
    assert parse_spec("some-sg-vr[estimator=minibatch]").label == "some-sg-vr[estimator=minibatch]"
    with pytest.raises(SpecError, match="epochs='3': give one of 1, 2"):
        parse_spec("some-sg[epochs=3]")


@pytest.mark.usefixtures("minibatches")
def test_a_spec_knows_what_its_sampler_needs():
    spec = parse_spec("some-sg")
    assert (spec.approximate, spec.needs_rows, spec.rows) == (True, True, "auto")
    assert parse_spec("some-sg[rows=K]").rows == "K"
    nuts = parse_spec("nuts")
    assert (nuts.approximate, nuts.needs_rows, nuts.rows) == (False, False, None)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_an_unknown_option_lists_all_of_them(name):
    with pytest.raises(SpecError) as caught:
        parse_spec(f"{name}[no_such_option=1]")
    listed = str(caught.value).rpartition("its options are ")[2]
    assert listed.split(", ") == list(options(SAMPLERS[name]))
