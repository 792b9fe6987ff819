// what looks like a sum and is a recurrence
data {
  int N;
  vector[N] x;
}
parameters {
  vector[N] a;
  real b;
}
model {
  real s = 0.3;
  real alternating = 1;
  real decaying = 1;
  real growing = 1;
  real reset = 0;
  real pre = 0;
  real both = 0.1;
  vector[N] prefix;
  vector[N] before;
  for (i in 1:N)  // scan
    alternating = a[i] - alternating;
  for (i in 1:N)  // scan
    decaying = 0.5 * decaying + a[i] * x[i];
  for (i in 1:N)  // scan
    growing += growing * 0.1 * tanh(a[i]) + 0.2;
  for (i in 1:N) {  // scan
    before[i] = s;
    s += a[i] * x[i];
    prefix[i] = s;
  }
  for (i in 1:N) {  // scan
    reset += a[i];
    if (x[i] > 0) reset = b;
  }
  for (i in 1:N) {  // scan
    pre = pre + square(a[i]);
    pre = pre + 0.1 * pre;
  }
  for (i in 1:N) {  // scan
    both += a[i];
    both *= 1 - 0.1 * tanh(x[i]);
  }
  target += -square(alternating) - square(decaying) + growing - dot_self(prefix - 1) * 0.1;
  target += dot_product(before, x) * 0.2 - square(reset) - log1p(pre) - square(both) - square(b);
}
