// Gaussian process regression with a squared-exponential kernel, the function integrated out.
data {
  int<lower=1> N;
  array[N] real x;
  vector[N] y;
}
parameters {
  real<lower=0> rho; // length scale
  real<lower=0> alpha; // marginal standard deviation of the function
  real<lower=0> sigma; // noise VARIANCE: it is added to the diagonal as it is
}
model {
  rho ~ gamma(25, 4);
  alpha ~ normal(0, 2);
  sigma ~ std_normal();
  y ~ multi_normal_cholesky(zeros_vector(N),
                            cholesky_decompose(add_diag(gp_exp_quad_cov(x, alpha, rho), sigma)));
}
