"""Random small Stan programs: valid by construction, with loops and branches that depend on each other.

Every index is in range, every size agrees, every distribution gets valid arguments; what is random is which
elements are read and written, in which order and under which conditions.
"""

from __future__ import annotations

from contextlib import contextmanager
from random import Random
from typing import Any, NamedTuple

COLUMNS = 3


class Int(NamedTuple):
    """An int expression and the range of its values."""

    text: str
    low: int
    high: int


FUNCTIONS = """functions {
  real bend(real x) {
    if (x < -0.5) return -0.5 - 0.1 * log1p(-x - 0.5);
    else if (x > 1) return sqrt(x);
    return x;
  }
  real part(vector v, int n) {
    real s = 0;
    for (i in 1:n) s += v[i] * i;
    return 0.2 * s;
  }
  vector filtered(vector v, real rate) {
    vector[rows(v)] w = v;
    for (i in 2:rows(v)) w[i] = 0.4 * tanh(rate) * w[i - 1] + v[i];
    return w;
  }
  int first(vector v, real limit) {
    for (i in 1:rows(v)) if (v[i] > limit) return i;
    return rows(v);
  }
  real spread(row_vector r) {
    return max(r) - min(r);
  }
  real odd_lpdf(real y, real m) {
    return normal_lupdf(y | m, 2) - 0.1 * square(y);
  }
  void pull_lp(vector v, real m) {
    v ~ normal(m, 3);
    target += 0.01 * sum(v);
  }
}
"""

DATA = """data {
  int N;
  vector[N] x;
  matrix[N, 3] X;
  array[N] int k;
  array[N] int p;
  array[N] int f;
  array[N] int len;
}
parameters {
  vector[N] a;
  vector[3] b;
  matrix[N, 3] Z;
  real c;
}
"""

START = """  vector[N] u = 0.3 * a;
  vector[N] w = rep_vector(0.2, N);
  matrix[N, 3] M = 0.1 * Z;
  array[N] real q = rep_array(0.1, N);
  row_vector[3] r = b';
  real s = 0.1;
  real t = c;
  int n = 0;
"""

END = """  target += -0.2 * dot_self(u) - 0.1 * dot_self(w - x) - 0.1 * sum(square(M - X));
  target += -0.1 * square(s - 0.5) - 0.1 * dot_self(to_vector(q)) - 0.1 * r * b - 0.1 * square(t);
  target += 0.01 * n * c - 0.5 * dot_self(a) - 0.5 * dot_self(b) - 0.5 * sum(square(Z)) - 0.5 * square(c);
"""


def random_data(random: Random) -> dict[str, Any]:
    """Data for any program of `random_program`; the long ones are beyond what is unrolled."""
    n = random.choice([4, 4, 14])

    def numbers(*shape: int) -> Any:
        if not shape:
            return round(random.uniform(-1.5, 1.5), 2)
        return [numbers(*shape[1:]) for _ in range(shape[0])]

    permutation = list(range(1, n + 1))
    random.shuffle(permutation)
    return {
        "N": n,
        "x": numbers(n),
        "X": numbers(n, COLUMNS),
        "k": [random.randint(1, n) for _ in range(n)],
        "p": permutation,
        "f": [random.randint(0, 1) for _ in range(n)],
        "len": [random.randint(0, 3) for _ in range(n)],
    }


def random_program(random: Random, n: int, statements: int = 6) -> str:
    """A program that accepts the data of `random_data` with ``N = n``."""
    return _Writer(random, n).program(statements)


class _Writer:
    def __init__(self, random: Random, n: int) -> None:
        self.random = random
        self.n = n
        self.ints: list[Int] = []
        """Loop variables in scope."""
        self.locals: list[str] = []
        """Local reals in scope."""
        self.loops = 0
        self.names = 0

    def program(self, statements: int) -> str:
        body = [self.statement(2, 1) for _ in range(statements)]
        return f"{FUNCTIONS}{DATA}model {{\n{START}{''.join(body)}{END}}}\n"

    # -- choices ----------------------------------------------------------------------------------

    def one(self, *options: Any) -> Any:
        return self.random.choice(options)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def fresh(self, stem: str) -> str:
        self.names += 1
        return f"{stem}{self.names}"

    # -- ints -------------------------------------------------------------------------------------

    def index(self, size: int) -> str:
        """An int expression within 1:size."""
        found = [
            expression
            for expression in self.int_expressions()
            if 1 <= expression.low <= expression.high <= size
        ]
        if found and self.chance(0.9):
            return self.random.choice(found).text
        return str(self.random.randint(1, size))

    def int_expressions(self) -> list[Int]:
        n = self.n
        found = [Int(f"1 + n % {n}", 1, n), Int("N", n, n), Int("first(x, 0.5)", 1, n)][: self.one(0, 3)]
        for v in self.ints:
            found += [
                v,
                v,
                v,
                Int(f"{v.text} - 1", v.low - 1, v.high - 1),
                Int(f"{v.text} - 2", v.low - 2, v.high - 2),
            ]
            found.append(Int(f"{v.text} + 1", v.low + 1, v.high + 1))
            if v.low >= 1 and v.high <= n:
                found += [Int(f"k[{v.text}]", 1, n), Int(f"p[{v.text}]", 1, n)]
                found.append(Int(f"N - {v.text} + 1", n - v.high + 1, n - v.low + 1))
            found.append(Int(f"1 + {v.text} % {COLUMNS}", 1, COLUMNS))
            if v.low >= 0:
                found.append(Int(f"{v.text} %/% 2 + 1", v.low // 2 + 1, v.high // 2 + 1))
        return found

    # -- expressions ------------------------------------------------------------------------------

    def real(self, depth: int) -> str:
        if depth == 0 or self.chance(0.3):
            return self.atom()
        e = self.real
        match self.random.randint(0, 11):
            case 0 | 1:
                return f"({e(depth - 1)} + {e(depth - 1)})"
            case 2:
                return f"({e(depth - 1)} - {e(depth - 1)})"
            case 3 | 4:
                return f"({e(depth - 1)} * {self.atom()})"
            case 5:
                return f"{self.one('tanh', 'sin', 'inv_logit', 'bend', '-', 'atan')}({e(depth - 1)})"
            case 6:
                return f"({self.condition(depth - 1)} ? {e(depth - 1)} : {e(depth - 1)})"
            case 7:
                return f"0.3 * sum({self.vector(depth - 1)})"
            case 8:
                return f"0.2 * dot_product({self.row(depth - 1)}, b)"
            case 9:
                return f"part({self.vector(depth - 1)}, {self.index(self.n)})"
            case 10:
                return f"log_sum_exp({e(depth - 1)}, {self.atom()})"
            case _:
                return f"{self.one('spread', 'mean', 'log_sum_exp')}({self.row(depth - 1)})"

    def atom(self) -> str:
        n = self.n
        options = [
            f"{self.random.randint(-9, 9) / 5}",
            self.one("s", "t", "c"),
            f"{self.one('a', 'u', 'w', 'x', 'u', 'w')}[{self.index(n)}]",
            f"{self.one('M', 'X', 'Z', 'M')}[{self.index(n)}, {self.index(COLUMNS)}]",
            f"q[{self.index(n)}]",
            f"{self.one('b', 'r')}[{self.index(COLUMNS)}]",
        ]
        if self.locals:
            options += [self.random.choice(self.locals)] * 3
        if self.ints:
            options.append(f"0.1 * {self.random.choice(self.ints).text}")
        return self.random.choice(options)

    def vector(self, depth: int) -> str:
        if depth == 0 or self.chance(0.4):
            return self.one(
                "a", "u", "w", "x", f"M[, {self.index(COLUMNS)}]", "u[p]", "a[k]", "to_vector(q)", "(X * b)"
            )
        v = self.vector
        return self.one(
            f"({v(depth - 1)} + {v(depth - 1)})",
            f"({v(depth - 1)} .* {v(0)})",
            f"({v(depth - 1)} * {self.atom()})",
            f"tanh({v(depth - 1)})",
            f"M * {self.one('b', "r'", 'Z[' + self.index(self.n) + "]'")}",
            f"0.3 * cumulative_sum({v(depth - 1)})",
            f"filtered({v(depth - 1)}, {self.atom()})",
            f"append_row({v(0)}[{self.half()}:], {v(0)}[:{self.half()} - 1])",
        )

    def half(self) -> str:
        return str(self.n // 2)

    def row(self, depth: int) -> str:
        if depth == 0 or self.chance(0.5):
            return self.one(
                "r",
                "b'",
                f"M[{self.index(self.n)}]",
                f"X[{self.index(self.n)}, :]",
                f"Z[{self.index(self.n)}]",
            )
        return self.one(
            f"({self.row(depth - 1)} + {self.row(0)})",
            f"({self.row(depth - 1)} * {self.atom()})",
            f"sin({self.row(depth - 1)})",
            f"0.3 * {self.vector(0)}' * {self.one('M', 'X')}",
        )

    def condition(self, depth: int) -> str:
        if depth > 0 and self.chance(0.25):
            return f"({self.condition(0)} {self.one('&&', '||')} {self.condition(depth - 1)})"
        if self.chance(0.15):
            return f"!({self.condition(0)})"
        if self.chance(0.35):
            return f"{self.atom()} {self.one('<', '>', '<=', '>=')} {self.atom()}"
        return self.data_condition()

    def data_condition(self) -> str:
        options = [f"x[{self.index(self.n)}] > {self.one(0, 0.5, -0.5)}", f"f[{self.index(self.n)}]"]
        for v in self.ints:
            options += [f"{v.text} % 2 == 0", f"{v.text} > {self.one(1, 2)}"]
            if v.low >= 1 and v.high <= self.n:
                options += [f"f[{v.text}]", f"k[{v.text}] > {v.text}", f"!f[{v.text}] && x[{v.text}] < 0.8"]
        return self.random.choice(options)

    # -- statements -------------------------------------------------------------------------------

    def statement(self, depth: int, level: int) -> str:
        pad = "  " * level
        if depth > 0:
            match self.random.randint(0, 9):
                case 0 | 1 | 2 | 3:
                    return self.loop(depth, level)
                case 4 | 5:
                    text = f"{pad}if ({self.condition(1)}) {self.block(depth - 1, level)}"
                    if self.chance(0.3):
                        text = f"{text[:-1]} else if ({self.condition(1)}) {self.block(depth - 1, level)}"
                    if self.chance(0.5):
                        text = f"{text[:-1]} else {self.block(depth - 1, level)}"
                    return text
                case 6:
                    return f"{pad}{self.block(depth - 1, level)}"
        return f"{pad}{self.simple()}\n"

    def block(self, depth: int, level: int, before: str = "") -> str:
        known = len(self.locals)
        lines = [before]
        if self.chance(0.4):
            name = self.fresh("l")
            lines.append(f"{'  ' * (level + 1)}real {name} = {self.real(1)};\n")
            self.locals.append(name)
        lines += [self.statement(depth, level + 1) for _ in range(self.random.randint(1, 3))]
        del self.locals[known:]
        return f"{{\n{''.join(lines)}{'  ' * level}}}\n"

    def loop(self, depth: int, level: int) -> str:
        pad, n = "  " * level, self.n
        if self.chance(0.1):
            name = self.fresh("v")
            sequence = self.one("tanh(u)", "x", "to_array_1d(2 * w)", "a", "b")
            with self.scope([], [name]):
                return f"{pad}for ({name} in {sequence}) {self.block(depth - 1, level)}"
        name = self.fresh("i")
        options = [
            ("1:N", 1, n),
            ("1:N", 1, n),
            ("2:N", 2, n),
            ("3:N", 3, n),
            ("1:(N - 1)", 1, n - 1),
            ("1:3", 1, 3),
        ]
        inner = [v for v in self.ints if v.low >= 1 and v.high <= n]
        if inner:
            v = self.random.choice(inner)
            options += [(f"{v.text}:N", v.low, n), (f"1:{v.text}", 1, v.high), (f"1:len[{v.text}]", 1, 3)]
            options += [(f"({v.text} + 1):N", min(v.low + 1, n), n), ("1:3", 1, 3), ("1:3", 1, 3)]
        bounds, low, high = self.random.choice(options)
        before = ""
        if self.chance(0.15):
            with self.scope([Int(name, low, high)]):
                before = f"{pad}  if ({self.data_condition()}) {self.one('continue', 'continue', 'break')};\n"
        with self.scope([Int(name, low, high)]):
            return f"{pad}for ({name} in {bounds}) {self.block(depth - 1, level, before)}"

    @contextmanager
    def scope(self, ints, reals=()):
        known = len(self.ints), len(self.locals)
        self.ints += ints
        self.locals += reals
        yield
        del self.ints[known[0] :], self.locals[known[1] :]

    def simple(self) -> str:
        n, i, j = self.n, self.index(self.n), self.index(COLUMNS)
        small = self.one("tanh(", "0.5 * (", "(")
        location_scale = self.one("normal", "cauchy", "logistic")
        e = f"{small}{self.real(2)})"
        options = [
            f"{self.one('u', 'w', 'q')}[{i}] {self.one('=', '=', '+=', '-=')} {e};",
            f"{self.one('u', 'w', 'q')}[{i}] {self.one('=', '=', '+=', '-=')} {e};",
            f"M[{i}, {j}] {self.one('=', '+=', '*=')} {e};",
            f"{self.one('s', 't')} {self.one('=', '+=', '-=')} {e};",
            f"s = {self.one('s + ' + e, e + ' + s', 's - ' + e, '0.5 * s + ' + e, e + ' - s')};",
            f"{self.one('s', 't')} = {self.one('fmax', 'fmin')}({self.one('s', 't')}, {e});",
            f"target += 0.1 * {e};",
            f"target += -0.1 * square({e});",
            f"{self.atom()} ~ {location_scale}({self.real(1)}, 1 + square({self.atom()} + c));",
            f"target += poisson_log_lpmf(k[{i}] | tanh({self.real(1)}));",
            f"f[{i}] ~ bernoulli_logit({self.real(1)} + 0.1 * c);",
            f"target += normal_{self.one('lpdf', 'lupdf')}({self.atom()} | {self.atom()}, 1 + square(c));",
            f"{self.atom()} ~ odd({self.atom()} + 0.1 * c);",
            f"{self.one('u', 'w')} = {small}{self.vector(2)});",
            f"M[{i}] {self.one('=', '+=')} {small}{self.row(1)});",
            f"M[, {j}] = {small}{self.vector(1)});",
            f"r {self.one('=', '+=')} {small}{self.row(1)});",
            f"{self.one('u', 'w')}[p] = {self.vector(1)};",
            f"u[2:N] = {self.one('a[:(N - 1)]', '0.5 * w[2:]', 'a[2:N] * ' + self.atom())};",
            f"pull_lp({self.vector(1)}, {self.atom()} + c);",
            f"{self.vector(1)} ~ normal({self.vector(1)}, 1 + square(c));",
            f"n += {self.one('1', 'f[' + i + ']', self.index(n))};",
            f'if ({self.atom()} > 2.2) reject("too large");',
        ]
        locals_ = [name for name in self.locals if name.startswith("l")]
        if locals_:
            options += [f"{self.random.choice(locals_)} {self.one('=', '+=')} {e};"] * 3
        return self.random.choice(options)
