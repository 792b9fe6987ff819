// Predator and prey after Lotka and Volterra, observed with multiplicative log-normal error.
functions {
  vector growth(real t, vector z, array[] real theta) {
    // z: prey, predators; theta: birth of prey, predation, death of predators, conversion
    return [z[1] * (theta[1] - theta[2] * z[2]), z[2] * (theta[4] * z[1] - theta[3])]';
  }
}
data {
  int<lower=0> N;
  array[N] real ts; // times of the measurements; the initial one is at 0
  array[2] real y_init;
  array[N, 2] real<lower=0> y;
}
parameters {
  array[4] real<lower=0> theta;
  vector<lower=0>[2] z_init; // true populations at time 0
  array[2] real<lower=0> sigma;
}
transformed parameters {
  array[N] vector[2] z = ode_rk45_tol(growth, z_init, 0, ts, 1e-5, 1e-3, 500, theta);
}
model {
  theta[{1, 3}] ~ normal(1, 0.5);
  theta[{2, 4}] ~ normal(0.05, 0.05);
  z_init ~ lognormal(log(10), 1);
  sigma ~ lognormal(-1, 1);
  for (species in 1 : 2) {
    y_init[species] ~ lognormal(log(z_init[species]), sigma[species]);
    y[ : , species] ~ lognormal(log(z[ : , species]), sigma[species]);
  }
}
