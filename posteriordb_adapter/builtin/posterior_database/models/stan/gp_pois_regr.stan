// Counts with a latent Gaussian process as log rate, noncentered through the Cholesky factor.
data {
  int<lower=1> N;
  array[N] real x;
  array[N] int k; // counts
}
parameters {
  real<lower=0> rho; // length scale
  real<lower=0> alpha; // marginal standard deviation
  vector[N] f_tilde;
}
transformed parameters {
  // The jitter of 1e-10 keeps the kernel matrix positive definite.
  vector[N] f = cholesky_decompose(add_diag(gp_exp_quad_cov(x, alpha, rho), 1e-10)) * f_tilde;
}
model {
  rho ~ gamma(25, 4);
  alpha ~ normal(0, 2);
  f_tilde ~ std_normal();
  k ~ poisson_log(f);
}
