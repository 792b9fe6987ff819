// one system of differential equations by two interfaces
functions {
  vector system(real t, vector u, real a, vector b) {
    vector[2] du;
    du[1] = -a * u[1] + 0.5 * u[2] * b[1];
    du[2] = a * u[1] - u[2] * b[2] + 0.1 * sin(t);
    return du;
  }
  array[] real old_system(real t, array[] real u, array[] real theta, array[] real x_r, array[] int x_i) {
    return {-theta[1] * u[1] * x_r[1], theta[1] * u[1] - theta[2] * u[x_i[1]]};
  }
}
data {
  int T;
  array[T] real ts;
  array[T] vector[2] y;
}
parameters {
  real<lower=0> a;
  vector<lower=0>[2] b;
  vector[2] u0;
}
model {
  array[T] vector[2] u = ode_rk45_tol(system, u0, 0.0, ts, 1e-10, 1e-10, 1000000, a, b);
  array[T, 2] real w = integrate_ode_rk45(old_system, {1.0, a}, 0, ts, {a, b[1]}, {0.7}, {2}, 1e-10, 1e-10, 1000000);
  for (t in 1:T) y[t] ~ normal(u[t] + to_vector(w[t]), 1);
  a ~ gamma(3, 3);
  b ~ gamma(3, 3);
  u0 ~ normal(1, 1);
}
