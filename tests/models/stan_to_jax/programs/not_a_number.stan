// what is never written is NaN, which poisons the density only where it is read
data {
  int N;
  array[N] int k;
}
parameters {
  vector[N] a;
}
transformed parameters {
  vector[N] p = rep_vector(0, N);
}
model {
  vector[N] partly;
  vector[2] none;
  real unused;
  for (i in 1:N) {
    real t;
    if (k[i]) {
      partly[i] = a[i];
      t = a[i] * 2;
    }
    if (k[i]) target += -square(partly[i]) - square(t - 1);
    else target += -square(a[i]);
  }
  if (a[1] > 0.8) target += partly[1] * none[1];
}
