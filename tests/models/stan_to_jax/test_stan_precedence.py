"""What expressions without brackets mean, held against Stan by value."""

import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from essper.models import from_stan
from essper.models.stan_to_jax.parser import parse
from essper.models.stan_to_jax.syntax import Assignment, Binary, Conditional, Number, Unary, Variable

INTEGERS = ("0", "1", "2", "3", "5", "7")
REALS = ("0.5", "1.5", "2.0", "3.0", "0.25")
MATRICES = ("A", "B", "C")
VALUES = {
    "A": np.array([[2.0, 1.0], [0.5, 3.0]]),
    "B": np.array([[1.0, 0.25], [2.0, 4.0]]),
    "C": np.array([[0.5, 1.5], [1.25, 0.75]]),
}
HAND = (
    "-2^2",
    "2^3^2",
    "2.0^-1*3",
    "7 * 3 %/% 2",
    "!0 == 1",
    "1 || 0 && 0",
    "3 > 2 > 1",
    "0 ? 1 : 0 ? 2 : 3",
)


@dataclass(frozen=True)
class Family:
    """Expressions that have one type however they are grouped, so that any text of them is a program."""

    type: str
    atoms: tuple[str, ...]
    operators: str
    prefixes: tuple[str, ...] = ("-", "", "")
    postfixes: tuple[str, ...] = ("",)
    condition: str = ""
    """What makes a condition of a value."""


FAMILIES = {
    "arithmetic of integers": Family("int", INTEGERS, "+ - * % %/%"),
    "logic": Family("int", INTEGERS, "+ - * % == != < > <= >= && && || || ?", ("-", "!", "+", "", "")),
    "reals": Family("real", REALS, "+ - * / .* ./ ^ ^ .^ < >= == ?", condition=" > 1"),
    "matrices": Family("matrix[2, 2]", MATRICES, "+ - * / .* ./ \\ \\", postfixes=("'", "", "")),
}


def written(family, state, operators):
    """A random expression with hardly a bracket: the grouping is the parser's."""

    def atom():
        return state.choice(family.prefixes) + state.choice(family.atoms) + state.choice(family.postfixes)

    text = atom()
    for _ in range(operators):
        operator = state.choice(family.operators.split())
        if operator == "?":
            text = f"{text}{family.condition} ? {atom()} : {atom()}"
        elif state.random() < 0.1:
            text = f"({text}) {operator} {atom()}"
        else:
            text = f"{text} {operator} {atom()}"
    return text


def parsed(text):
    (assignment,) = parse(f"model {{ x = {text}; }}", "m.stan").model
    assert isinstance(assignment, Assignment)
    return assignment.value


class Undefined(Exception):
    pass


def value(node) -> Any:
    """What an expression of numbers and matrices is, after the tree alone."""
    match node:
        case Number():
            return node.value
        case Variable():
            return VALUES[node.name]
        case Conditional():
            return value(node.yes) if value(node.condition) else value(node.no)
        case Unary("'"):
            return value(node.operand).T
        case Unary():
            operand = value(node.operand)
            return {"-": lambda: -operand, "+": lambda: operand, "!": lambda: int(not operand)}[
                node.operator
            ]()
        case Binary():
            return combined(node.operator, value(node.left), value(node.right))
    raise AssertionError(node)


def combined(operator, left: Any, right: Any) -> Any:
    matrices = isinstance(left, np.ndarray)
    whole = isinstance(left, int) and isinstance(right, int)
    if operator in ("/", "./", "%", "%/%") and not matrices and right == 0:
        raise Undefined
    if operator in ("^", ".^"):
        try:
            return math.pow(left, right)
        except (ValueError, OverflowError):
            raise Undefined from None
    if operator in ("%", "%/%") or (operator == "/" and whole):
        quotient = abs(left) // abs(right) * (1 if left * right >= 0 else -1)
        return left - quotient * right if operator == "%" else quotient
    if matrices and operator in ("\\", "/"):
        return (
            np.linalg.solve(left, right)
            if operator == "\\"
            else np.linalg.solve(np.transpose(right), left.T).T
        )
    match operator:
        case "+" | "-":
            return left + right if operator == "+" else left - right
        case "*" if matrices:
            return left @ right
        case "*" | ".*":
            return left * right
        case "/" | "./":
            return left / right
        case "&&" | "||":
            return int(bool(left) and bool(right)) if operator == "&&" else int(bool(left) or bool(right))
    comparisons = {"==": left == right, "!=": left != right, "<": left < right, ">": left > right}
    return int((comparisons | {"<=": left <= right, ">=": left >= right})[operator])


def sample_of(family, count):
    """Distinct random expressions, with their finite moderate values."""
    state = random.Random(family.operators)
    found = {}
    while len(found) < count:
        text = written(family, state, state.randint(2, 5))
        try:
            with np.errstate(divide="ignore", invalid="ignore"):
                result = np.asarray(value(parsed(text)), float)
        except (Undefined, np.linalg.LinAlgError):
            continue
        if np.isfinite(result).all() and (abs(result) < 1e6).all():
            found[text] = result
    return found


def by_stan(type_, texts):
    """The values of expressions of one type, as Stan computes them."""
    rows = {name: ", ".join(str(row) for row in matrix.tolist()) for name, matrix in VALUES.items()}
    matrices = "".join(f"matrix[2, 2] {name} = [{rows[name]}];\n" for name in VALUES)
    quantities = "".join(f"{type_} q{k} = {text};\n" for k, text in enumerate(texts))
    model = from_stan(
        f"transformed data {{ {matrices} }} parameters {{ real p; }} model {{ p ~ normal(0, 1); }}\n"
        f"generated quantities {{ {quantities} }}"
    ).model
    flat = model.param_constrain(np.zeros(1), include_gq=True, rng=model.new_rng(0))[1:]
    shape = (2, 2) if type_.startswith("matrix") else ()
    return [part.reshape(shape).T for part in flat.reshape(len(texts), -1)]  # column by column


@pytest.mark.parametrize("name", FAMILIES)
def test_expressions_mean_what_they_mean_in_stan(name):
    family = FAMILIES[name]
    expected = sample_of(family, 200)
    for (text, ours), theirs in zip(expected.items(), by_stan(family.type, expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-9, err_msg=text)


def test_chosen_expressions_mean_what_they_mean_in_stan():
    np.testing.assert_array_equal([value(parsed(text)) for text in HAND], by_stan("real", HAND))
