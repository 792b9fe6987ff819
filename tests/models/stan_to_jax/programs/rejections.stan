// reject() and invalid arguments below conditions on parameters: the density is 0 exactly there
functions {
  real checked(real x) {
    if (x < -1.2) reject("x is ", x);
    return sqrt(x + 1.2);
  }
}
data {
  int N;
  vector[N] x;
}
parameters {
  real a;
  real b;
  vector[N] c;
}
model {
  if (a > 1.1) reject("a is too large");
  if (b < 0) {
    if (a > b + 2) reject("a is ", a);
    target += -square(b);
  } else {
    target += normal_lpdf(a | 0, b);
  }
  if (a > 0) {
    target += -sqrt(a);
    b ~ normal(0, 1);
  } else if (a < -1.5) {
    target += -1;
    b ~ normal(0, a + 2.5);
  }
  target += checked(b);
  for (i in 1:N) {
    if (x[i] > 0) {
      if (c[i] > x[i] + 1) reject("c");
    } else {
      target += -square(c[i]) + (c[i] > 0 ? normal_lpdf(x[i] | 0, c[i]) : 0);
    }
    c[i] ~ normal(x[i], 1);
  }
  if (a < -100) b ~ normal(0, -1);
}
