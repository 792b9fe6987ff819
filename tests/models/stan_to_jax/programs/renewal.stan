// an epidemic by convolution with its own past, until a cap, in several regions of different length
data {
  int M;
  int T;
  array[M] int len;
  vector[T] gen;
  array[M, T] int deaths;
  int seed_days;
  matrix[T, 2] X;
}
parameters {
  vector<lower=0>[M] y;
  vector[2] alpha;
  real<lower=0> phi;
}
transformed parameters {
  matrix[T, M] prediction = rep_matrix(0, T, M);
  matrix[T, M] expected = rep_matrix(1e-3, T, M);
  matrix[T, M] R;
  matrix[T, M] cumulated = rep_matrix(0, T, M);
  for (m in 1:M) {
    R[, m] = exp(X * alpha * 0.3) + 0.1 * m;
    prediction[1:seed_days, m] = rep_vector(y[m], seed_days);
    for (i in 2:seed_days) cumulated[i, m] = cumulated[i - 1, m] + prediction[i, m];
    for (i in (seed_days + 1):len[m]) {  // unroll
      real convolution = 0;
      for (j in 1:(i - 1)) convolution += prediction[j, m] * gen[i - j];
      cumulated[i, m] = cumulated[i - 1, m] + prediction[i - 1, m];
      prediction[i, m] = R[i, m] * convolution * exp(-0.01 * cumulated[i, m]);
    }
    for (i in 2:len[m])
      expected[i, m] += dot_product(prediction[1:(i - 1), m], reverse(gen[1:(i - 1)]));
  }
}
model {
  for (m in 1:M) deaths[m, 1:len[m]] ~ poisson(expected[1:len[m], m] + 0.1);
  for (m in 1:M) for (t in 2:len[m]) deaths[m, t] ~ neg_binomial_2(expected[t, m] + 0.1, phi);
  y ~ exponential(1);
  alpha ~ normal(0, 1);
  phi ~ gamma(3, 1);
}
