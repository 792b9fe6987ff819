// Hidden Markov chain with two states, Gaussian output of unit variance and ordered means. The
// states are summed out by the forward algorithm; both are equally likely at time 1.
data {
  int<lower=0> N;
  int<lower=0> K; // the priors and the transition rows are written for K = 2
  array[N] real y;
}
parameters {
  simplex[K] theta1; // from state 1 to every state
  simplex[K] theta2; // from state 2
  positive_ordered[K] mu;
}
transformed parameters {
  array[K] simplex[K] theta = {theta1, theta2};
}
model {
  mu[1] ~ normal(3, 1);
  mu[2] ~ normal(10, 1);

  array[K] vector[K] log_into; // log_into[k][j]: log probability of j -> k
  for (k in 1 : K) {
    for (j in 1 : K) {
      log_into[k][j] = log(theta[j, k]);
    }
  }

  // forward[k] = log p(y[1:t], state t is k), up to a constant
  vector[K] forward = -0.5 * square(y[1] - mu);
  for (t in 2 : N) {
    vector[K] previous = forward;
    for (k in 1 : K) {
      forward[k] = log_sum_exp(previous + log_into[k]) - 0.5 * square(y[t] - mu[k]);
    }
  }
  target += log_sum_exp(forward);
}
