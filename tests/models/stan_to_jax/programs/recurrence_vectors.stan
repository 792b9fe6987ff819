// states that are vectors, rows or columns of a matrix, and matrices carried from step to step
data {
  int T;
  int K;
  array[T] vector[K] y;
  matrix[K, K] Q;
}
parameters {
  matrix[K, K] A;
  vector[K] x1;
  array[T] vector[K] e;
}
transformed parameters {
  array[T] vector[K] x;
  matrix[T, K] R;
  matrix[K, T] C;
  matrix[K, K] P = identity_matrix(K);
  array[T] matrix[K, K] history;
  real ll = 0;
  x[1] = x1;
  R[1] = x1';
  C[, 1] = 2 * x1;
  for (t in 2:T) {  // scan
    x[t] = 0.3 * A * x[t - 1] + e[t];
    R[t] = 0.5 * R[t - 1] * tanh(A) + y[t]';
    C[:, t] = 0.2 * A' * C[:, t - 1] - x[t];
  }
  for (t in 1:T) {  // scan
    matrix[K, K] S;
    P = 0.1 * A * P * A' + Q;
    P = 0.5 * (P + P');
    S = P + diag_matrix(rep_vector(1, K));
    ll += multi_normal_lpdf(y[t] | x[t], S);
    P -= P * inverse_spd(S) * P;
    history[t] = P;
  }
}
model {
  target += ll;
  to_vector(A) ~ normal(0, 1);
  x1 ~ normal(0, 1);
  for (t in 1:T) {
    e[t] ~ normal(0, 1);
    y[t] ~ normal(R[t]', 1);
    y[t] ~ normal(C[, t], 2);
    target += 0.1 * sum(diagonal(history[t]));
  }
}
