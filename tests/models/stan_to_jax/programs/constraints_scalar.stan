// every scalar bound, on reals, vectors, matrices and arrays, with constant, data and infinite bounds
data {
  vector[3] low;
  int n;
}
parameters {
  real<lower=-1> a;
  real<upper=2> b;
  real<lower=0.5, upper=3> c;
  real<offset=1, multiplier=2> d;
  real<offset=-2> e;
  real<multiplier=0.3> f;
  vector<lower=low>[3] g;
  row_vector<lower=low', upper=[4, 5, 6]>[3] h;
  matrix<upper=1>[2, 3] k;
  array[2, 2] real<lower=n> l;
  array[2] vector<lower=0, upper=n>[3] m;
  real<lower=negative_infinity(), upper=1> o;
  real<lower=0, upper=positive_infinity()> p;
  real<lower=negative_infinity(), upper=positive_infinity()> q;
  vector<offset=low, multiplier=[1, 2, 3]'>[3] r;
  vector<lower=[0, negative_infinity(), 1]', upper=[1, 2, positive_infinity()]'>[3] s;
}
model {
  target += -square(a) - b ^ 2 - 2 * square(c) - abs(d) ^ 3 - square(e - 1) - square(f);
  target += -dot_self(g - [1, 2, 3]') - 0.5 * dot_self(h - [2, 3, 4]);
  for (i in 1:2)
    for (j in 1:3)
      target += -square(k[i, j] + i - 0.5 * j);
  for (i in 1:2)
    for (j in 1:2)
      l[i, j] ~ normal(i, j);
  m[1] ~ normal(1, 1);
  m[2] ~ normal([1, 2, 3]', 2);
  {o, p, q} ~ normal({0, 1, 2}, 3);
  r ~ normal([1, 2, 3]', [3, 2, 1]');
  s ~ normal([1, 2, 3]', [3, 2, 1]');
}
