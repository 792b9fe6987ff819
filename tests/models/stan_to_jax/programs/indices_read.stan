// indices of every form on vectors, rows, matrices and arrays of them
data {
  int N;
  array[4] int i1;
  array[3] int i2;
  array[N] int g;
  array[2, 3] int nested;
}
parameters {
  vector[N] a;
  row_vector[N] r;
  matrix[4, 5] X;
  array[3] matrix[2, 4] M;
  array[3, 2] vector[4] V;
  array[5] real q;
}
model {
  target += -dot_self(a) - dot_self(r) - sum(square(X)) - dot_self(to_vector(q));
  for (k in 1:3) target += -sum(square(M[k])) - dot_self(V[k, 1]) - dot_self(V[k, 2]);
  target += dot_product(a[i1], [1, 2, 3, 4]) + r[i2] * [1, 2, 3]' - sum(a[2:]) + 2 * sum(a[:3]) - 3 * sum(a[2:3]);
  target += sum(a[g] .* a) + dot_product(r[{1, 1, 2}], r[3:5]) + sum(a[4:3]) + sum(a[nested[2]]);
  target += sum(X[i2, i2] * X[2:4, 1]) + X[1] * X[1:1]' * [2]' + X[, 2]' * X[:, 3] + sum(X[2:, :2] .* X[:3, 3:4]);
  target += X[2, 3:] * X[i2, 1] + dot_product(X[i1, 5], X[:, 4]) + X[3][2] * X[4][5] + X[2:3][2][1] - X[2:3, 2:3][1, 2];
  target += sum(M[2] * M[1]') + M[3, 2, 4] * M[3][2][3] + sum(M[1:2][2, 1]) - sum(M[i2[3]][, 2]) + sum(M[2, :, 3]);
  target += sum(M[3] * X[, 1]) + M[1, 2, i2] * X[i2, 2] + sum(M[2][{2, 2}, {1, 4}]) * q[2];
  target += dot_product(V[2, 1], V[1][2]) + sum(V[3, :][2]) - V[2:3, 2][1][4] * V[1, 1, 3] + sum(V[:, 1][2][i2]);
  target += V[{2, 2}, {1, 2}][2, 2][2:3]' * [1, -2]' + V[1, 1, {4, 1}]' * a[1:2] + mean(q[2:4]) * q[nested[1, 2]];
  target += sum(q[i2]) * 0.3 + sum(to_vector(q[g])) - q[nested[2, 1:2]][2] + X[nested[1], nested[2]][2, 1];
  for (k in 1:3) {
    target += 0.1 * sum(X[k] .* X[nested[1, k]]) + 0.2 * M[k, 1, i1[k]] + 0.1 * X[nested[2, k], k] * a[g[g[k]]];
    target += 0.1 * X[k, i2[k]:] * X[k, i2[k]:]' + 0.2 * sum(V[k, 1 + k % 2][:k]) - 0.3 * X[k:(k + 1), k][2];
    target += 0.05 * sum(X[nested[1], k] .* X[i2, k]) + sum(M[k][:, k:(k + 1)] * a[k:(k + 1)]);
  }
}
