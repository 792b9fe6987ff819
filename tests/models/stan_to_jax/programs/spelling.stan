// numbers, comments, precedence and associativity
/* a comment
   with // another inside and a quote " */
parameters {
  real a;
  real b;
  real e1;
  vector[3] c;
}
transformed parameters {
  real intb = a; // begins as a keyword does
  real target_ = b;
  real for1 = 1e-1 + 1.5E+0 + .5 + 2. + 1_000 * 0.001;
}
model {
  target += -a ^ 2 - 2 ^ 2 ^ 0.5 * b ^ 2 - -b;
  target += a - b - e1 + a / 2 / 4 * 8 - -e1 ^ 2 * -1;
  target += -(c' * c) - (c')[1:2] * c[2:3] * 0.1 + 2 * -a * -b * 0.1 + (-c')[1];
  target += 1 < 2 == 1 ? a : b;
  target += a > 0 ? b > 0 ? 1 * a : 2 * b : a < -1 ? 3 * b : 4 * a * b;
  target += !1 + !(0) * a + (0 || 1 && 0) * b + (1 == 1 != 0) * a * 0.1;
  target += 7 %/% 2 * a * 0.1 + 7 / 2 * a * 0.1 + 7 % 4 * 2 * b * 0.1 + 2 * 3 ^ 2 * b * 0.01;
  target += 0.1 * (c .* c)[2] .* a + 0.1 * sum(c ./ 2 .* c) + 0.1 * sum(2 * c .^ 2) - square(e1);
  target += intb - target_ * for1 + 0.1 * e1 + normal_lpdf(a | b, 1e0) + dot_product(c, [1, 2, 3]) * 1e-2;
  if (0) print("a quoted // string /* ", a, " */"); // and done
}
