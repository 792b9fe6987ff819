// Stan drops constants by type: local variables count as parameters even where they hold nothing but data
functions {
  void observe_lp(real y, real m) {
    y ~ normal(m, 1);
  }
}
data {
  int N;
  array[N] int k;
  vector[N] x;
}
transformed data {
  vector[N] z = 2 * x;
}
parameters {
  vector[N] a;
  real b;
}
transformed parameters {
  vector[N] w = x;
}
model {
  vector[N] y;
  y[1] = a[1];
  for (i in 2:N) {  // unroll
    y[i] = 0.5 * y[i - 1] + a[i];
    if (y[i] > 0) k[i] ~ poisson(3);
    if (a[i] > 0) k[i] ~ poisson_log(y[i]);
    if (a[i] > 0.1) x[i] ~ normal(x[i - 1], 1);
    else x[i] ~ student_t(4, y[i], 2);
    if (y[i] > 0.5) {
      real m = x[i];
      m ~ normal(0, 1);
    }
  }
  for (i in 1:N) {
    if (a[i] > 0) {
      real m;
      m = 2;
      x[i] ~ normal(m, 1);
      x[i] ~ normal(2, 1);
    } else {
      vector[2] m = [x[i], 1]';
      m ~ normal(0, 1);
      z[i] ~ normal(0, 1);
    }
    if (a[i] > 0.5) w[i] ~ normal(0, 1);
    else k[i] ~ neg_binomial_2_log(a[i], 3);
    if (b > 0) observe_lp(x[i], 0.5);
    else observe_lp(w[i], 0.5);
  }
  target += -0.5 * dot_self(a) - square(b);
}
