// conditions on parameters: sums, writes, nested, per row, and what would be NaN in the branch not taken
data {
  int N;
  vector[N] x;
}
parameters {
  vector[N] a;
  real b;
  real c;
}
transformed parameters {
  real root;
  vector[N] p;
  vector[2] v = [b, c]';
  real w = 1;
  if (b > 0) root = sqrt(b);
  else root = -sqrt(-b);
  for (i in 1:N) {
    if (a[i] > 0.2) {
      p[i] = log(a[i] - 0.2);
    } else if (a[i] > -0.5) {
      p[i] = sqrt(0.2 - a[i]) * x[i];
      if (b > c) p[i] = p[i] / sqrt(b - c);
    } else p[i] = b * log(-a[i] - 0.5);
  }
  if (c < 0) {
    real t = log(-c);
    v[1] = t;
    v[2] += 1 / c;
    w = 2;
  } else if (c > 1) {
    v = [sqrt(c - 1), b]';
  }
}
model {
  if (b > c) {
    b ~ normal(c, sqrt(b - c));
    target += 1;
  } else {
    target += -square(b - 1) - square(c);
  }
  for (i in 1:N) {
    if (a[i] > x[i]) target += lognormal_lpdf(a[i] - x[i] | log(a[i] - x[i]) * 0.5, 1);
    else for (j in 1:3) {
      if (x[i] - a[i] > 0.3 * j) target += -pow(x[i] - a[i], 1.5) * j;
      else if (j == 2) target += -0.5 * log1p(x[i] - a[i]);
    }
    if (a[i] < -0.1 && sqrt(-a[i]) > 0.5) target += w * a[i];
    if (a[i] >= 0 || log(-a[i]) > 0) target += v[1] * 0.1;
    target += -square(a[i] - root * 0.1);
  }
  target += -0.1 * dot_self(p) - 0.1 * dot_self(v);
}
