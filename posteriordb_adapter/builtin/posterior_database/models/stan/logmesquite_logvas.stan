// Leaf weight of mesquite bushes on a log-log scale: volume, area and shape of the canopy, height,
// density of the plant, and the group that was measured. Flat priors throughout.
data {
  int<lower=0> N;
  vector[N] weight;
  vector[N] diam1; // longer axis of the canopy
  vector[N] diam2; // shorter axis
  vector[N] canopy_height;
  vector[N] total_height;
  vector[N] density;
  vector[N] group;
}
transformed data {
  vector[N] log_weight = log(weight);
  matrix[N, 7] X;
  X[ : , 1] = ones_vector(N);
  X[ : , 3] = log(diam1) + log(diam2); // area
  X[ : , 2] = X[ : , 3] + log(canopy_height); // volume
  X[ : , 4] = log(diam1) - log(diam2); // shape
  X[ : , 5] = log(total_height);
  X[ : , 6] = log(density);
  X[ : , 7] = group;
}
parameters {
  vector[7] beta;
  real<lower=0> sigma;
}
model {
  log_weight ~ normal(X * beta, sigma);
}
