// blocks, shadowed names, odd names, local variables of the same name
data {
  int N;
  vector[N] lambda;
}
parameters {
  vector[N] def;
  real class;
  real None_x;
  real in_;
}
transformed parameters {
  real is = class;
  {
    real local = 2 * class;
    is += local;
    for (i in 1:N) {
      real local2 = local * i;
      is += local2 * 0.1;
    }
  }
}
model {
  real yield = 0;
  {
    real t = sum(def);
    yield += t;
  }
  {
    vector[N] t = def * 2;
    yield += t[1];
    {
      int t2 = 3;
      yield += t2 * class;
    }
  }
  for (i in 1:N) {
    real t = def[i];
    for (j in 1:2) {
      real t3 = t * j;
      yield += t3;
    }
    for (j in 1:2) {
      vector[j] t3 = rep_vector(t, j);
      yield += sum(t3) * 0.1;
    }
  }
  target += -square(yield) * 0.01 - dot_self(def - lambda);
  is ~ normal(yield, 2);
  {None_x, in_, class} ~ normal(0, 1);
  if (N > 5) print("target = ", target());
  ;
  profile("likelihood") {
    real t4 = dot_product(def, lambda);
    target += 0.1 * t4;
  }
}
