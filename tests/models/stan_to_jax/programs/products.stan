// products, quotients and transposes of every pair of types, with rows of a loop and without
data {
  int N;
  matrix[3, 3] S;
  matrix[N, 3] D;
  vector[3] u;
}
parameters {
  vector[3] v;
  row_vector[3] r;
  matrix[3, 3] X;
  matrix[2, 3] W;
  real a;
  array[N] vector[3] z;
  array[N] matrix[3, 3] M;
}
model {
  target += -dot_self(v) - dot_self(r) - sum(square(X)) - sum(square(W)) - square(a);
  target += r * v + sum(v * r) + sum(X * v) + sum(r * X) + sum(W * X) + sum(W * W') - sum(W' * W * X) + sum(a * X);
  target += sum(X * a) - sum(v * a) + sum(r / (2 + tanh(a))) + sum(1 ./ (2 + tanh(v))) + sum(X ./ (2 + tanh(X')));
  target += sum(v .* u) - sum(r .* r) + sum(X .* S) + sum(S * X - X * S) + v' * S * v + r * r' * a - (v * v')[1, 2];
  target += sum((S + 0.1 * X * X') \ v) + sum(r / (S + 0.1 * X * X')) + sum(S \ X) - sum(X' / S) + sum((S \ u) * a);
  target += sum((v + a)) - sum(a - r) + sum(X + a) - sum(2 - X) + sum(-X') + (-v)[2] + sum(+r) + sum(3 / (2 + square(v')));
  target += sum(exp(0.3 * v) .^ a) + sum(2 .^ v) - sum(square(X) .^ 2) * 0.1 + sum((1 + square(r)) .^ [1, 2, 3]);
  for (i in 1:N) {
    target += -dot_self(z[i]) - 0.5 * sum(square(M[i])) + r * z[i] + z[i]' * X * v - D[i] * z[i] + 0.1 * sum(X * z[i]);
    target += 0.1 * sum(D[i] * M[i]) + 0.1 * z[i]' * M[i] * D[i]' - 0.1 * sum(M[i] * X) + 0.1 * sum(S * M[i] * W');
    target += 0.1 * sum((S + 0.1 * M[i] * M[i]') \ z[i]) + 0.1 * sum(D[i] / (S + 0.1 * M[i] * M[i]')) + sum(z[i] * D[i]);
    target += 0.1 * sum(M[i]' .* (z[i] * z[i]')) + 0.1 * sum(a * M[i] / 3) + 0.1 * (z[i] * r)[2, 3] + (D * z[i])[i];
    target += 0.1 * sum(z[i] ./ (2 + sin(u))) + 0.1 * sum(S \ z[i]) + 0.01 * sum(diag_pre_multiply(z[i], M[i])[, 2]);
  }
}
