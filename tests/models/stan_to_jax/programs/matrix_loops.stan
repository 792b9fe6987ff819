// loops over rows, columns and blocks of matrices with whole-row and whole-column assignments
data {
  int N;
  int K;
  matrix[N, K] X;
  array[N] int g;
  int G;
}
parameters {
  matrix[K, G] B;
  row_vector[K] r;
  vector[N] e;
}
transformed parameters {
  matrix[N, K] A;
  matrix[G, K] means = rep_matrix(0, G, K);
  matrix[K, K] C = rep_matrix(0, K, K);
  array[N] row_vector[K] rowsof;
  array[K, N] real flipped;
  matrix[N + 1, K] padded;
  for (n in 1:N) {
    A[n] = X[n] .* B[, g[n]]' + r * e[n];
    rowsof[n] = A[n, :] / 2;
    rowsof[n][K] = e[n];
    means[g[n]] += A[n];
    C += A[n]' * X[n];
  }
  for (k in 1:K) {
    A[:, k] = A[:, k] - mean(A[:, k]);
    flipped[k] = to_array_1d(A[, k]);
    C[k, k] += k;
    if (k > 1) C[1:(k - 1), k] = C[k, 1:(k - 1)]';
  }
  padded[1] = r;
  padded[2:] = A;
  for (n in 2:N) padded[n, 2:K] += padded[n + 1, 1:(K - 1)];
}
model {
  for (n in 1:N) {
    e[n] ~ normal(A[n] * r', 1 + 0.1 * n);
    target += -0.1 * dot_self(rowsof[n]) - 0.05 * square(sum(to_vector(flipped[, n])));
  }
  target += -0.01 * sum(square(means)) - 0.001 * sum(square(C)) - 0.02 * sum(square(padded));
  to_vector(B) ~ normal(0, 1);
  r ~ normal(0, 1);
}
