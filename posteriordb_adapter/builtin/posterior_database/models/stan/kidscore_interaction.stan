// Children's test scores on their mothers' schooling, IQ and the product of the two.
data {
  int<lower=0> N;
  vector<lower=0, upper=200>[N] kid_score;
  vector<lower=0, upper=200>[N] mom_iq;
  vector<lower=0, upper=1>[N] mom_hs; // 1 where the mother finished high school
}
transformed data {
  matrix[N, 4] X;
  X[ : , 1] = ones_vector(N);
  X[ : , 2] = mom_hs;
  X[ : , 3] = mom_iq;
  X[ : , 4] = mom_hs .* mom_iq;
}
parameters {
  vector[4] beta;
  real<lower=0> sigma;
}
model {
  sigma ~ cauchy(0, 2.5);
  kid_score ~ normal(X * beta, sigma);
}
