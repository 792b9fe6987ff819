// the forward algorithm, as matrix of log probabilities, as scaled probabilities, backward, and built in
data {
  int T;
  int K;
  vector[T] y;
}
parameters {
  array[K] simplex[K] A;
  simplex[K] start;
  ordered[K] mu;
  real<lower=0> s;
}
transformed parameters {
  array[T] vector[K] logalpha;
  matrix[T, K] beta;
  real scaled = 0;
  {
    array[K] real accumulator;
    array[T] vector[K] alpha;
    for (j in 1:K) logalpha[1, j] = log(start[j]) + normal_lpdf(y[1] | mu[j], s);
    for (t in 2:T) {  // scan
      for (j in 1:K) {
        for (i in 1:K) accumulator[i] = logalpha[t - 1, i] + log(A[i, j]) + normal_lpdf(y[t] | mu[j], s);
        logalpha[t, j] = log_sum_exp(accumulator);
      }
    }
    for (t in 1:T) {  // scan
      vector[K] now;
      for (j in 1:K) {
        now[j] = exp(normal_lpdf(y[t] | mu[j], s));
        if (t == 1) now[j] *= start[j];
        else now[j] *= dot_product(alpha[t - 1], to_vector(A[:, j]));
      }
      scaled += log(sum(now));
      alpha[t] = now / sum(now);
    }
  }
  beta[T] = rep_row_vector(0, K);
  for (r in 2:T) {  // scan
    int t = T + 1 - r;
    for (i in 1:K) {  // unroll
      vector[K] terms;
      for (j in 1:K) terms[j] = log(A[i, j]) + normal_lpdf(y[t + 1] | mu[j], s) + beta[t + 1, j];
      beta[t, i] = log_sum_exp(terms);
    }
  }
}
model {
  target += log_sum_exp(logalpha[T]) + 0.3 * scaled + 0.1 * sum(beta[1]);
  mu ~ normal(0, 2);
  s ~ gamma(2, 1);
  for (i in 1:K) A[i] ~ dirichlet(rep_vector(2.0, K));
}
