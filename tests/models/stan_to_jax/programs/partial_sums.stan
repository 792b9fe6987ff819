// reduce_sum
functions {
  real part_lpmf(array[] int slice, int start, int end, vector eta, real b) {
    return poisson_log_lupmf(slice | eta[start:end] + b);
  }
  real other(array[] real slice, int start, int end, vector eta) {
    real s = 0;
    for (i in 1:size(slice)) s += normal_lpdf(slice[i] | eta[start + i - 1], 1);
    return s;
  }
}
data {
  int N;
  array[N] int k;
}
parameters {
  vector[N] eta;
  real b;
  array[N] real q;
}
model {
  target += reduce_sum(part_lupmf, k, 2, eta, b);
  target += reduce_sum(part_lpmf, k, 1, eta, b);
  target += reduce_sum(other, q, 3, eta);
  target += reduce_sum_static(other, q, 3, eta * 2);
  eta ~ normal(0, 1);
  b ~ normal(0, 1);
}
