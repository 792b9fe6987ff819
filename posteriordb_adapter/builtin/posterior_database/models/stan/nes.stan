// Party identification regressed on ideology, race, age group, education, gender and income.
// Flat priors on the coefficients and on the positive residual scale.
data {
  int<lower=0> N;
  vector[N] partyid7; // 1 (strong Democrat) to 7 (strong Republican)
  vector[N] real_ideo;
  vector[N] race_adj;
  vector[N] educ1;
  vector[N] gender;
  vector[N] income;
  array[N] int age_discrete; // 1: below 30, 2: 30-44, 3: 45-64, 4: 65 and above
}
transformed data {
  // One row per respondent; the youngest age group is the baseline.
  matrix[N, 9] X;
  for (n in 1 : N) {
    X[n] = [1, real_ideo[n], race_adj[n], age_discrete[n] == 2, age_discrete[n] == 3,
            age_discrete[n] == 4, educ1[n], gender[n], income[n]];
  }
}
parameters {
  vector[9] beta;
  real<lower=0> sigma;
}
model {
  partyid7 ~ normal(X * beta, sigma);
}
