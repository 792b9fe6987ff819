// one, two and three steps back, forward and backward in time, with the first elements set before
data {
  int T;
  vector[T] y;
}
parameters {
  real mu;
  vector<lower=-1, upper=1>[3] phi;
  real<lower=-1, upper=1> theta;
  real<lower=0> a0;
  real<lower=0, upper=1> a1;
  real<lower=0, upper=1 - a1> b1;
}
transformed parameters {
  vector[T] ar;
  vector[T] err;
  vector[T] back;
  array[T] real<lower=0> sigma;
  ar[1] = y[1];
  ar[2] = y[2] * phi[1];
  for (t in 3:T)  // scan
    ar[t] = mu + phi[1] * ar[t - 1] + phi[2] * ar[t - 2] + 0.1 * y[t];
  err[1] = y[1] - mu;
  for (t in 2:T) {  // scan
    real nu = mu + phi[1] * y[t - 1] + theta * err[t - 1];
    err[t] = y[t] - nu;
  }
  back[T] = mu;
  for (s in 1:(T - 1)) {  // scan
    int t = T - s;
    back[t] = 0.5 * phi[3] * back[t + 1] + y[t];
  }
  sigma[1] = 1;
  for (t in 2:T)  // scan
    sigma[t] = sqrt(a0 + a1 * square(y[t - 1] - mu) + b1 * square(sigma[t - 1]));
}
model {
  y ~ normal(ar, sigma);
  err ~ normal(0, sigma);
  target += -0.1 * dot_self(back);
  for (t in 4:T)
    y[t] ~ normal(mu + phi[1] * y[t - 1] + phi[2] * y[t - 2] + phi[3] * y[t - 3], sigma[t]);
}
