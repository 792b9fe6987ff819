// a variable outside of the loop: overwritten in each iteration, read before, kept, conditionally kept
data {
  int N;
  vector[N] x;
  array[N] int seen;
}
parameters {
  vector[N] a;
  real b;
}
model {
  real tmp;
  real flow = b;
  real carried = 0.5 * b;
  real last = 0;
  vector[2] pair = [1, 2]';
  vector[N] locf;
  array[2] real buffer = {b, -b};
  for (i in 1:N) {
    tmp = a[i] * x[i];
    tmp = tmp + 1;
    target += -0.1 * square(tmp);
    pair[1] = tmp;
    pair[2] = tmp * b;
    target += -0.1 * dot_self(pair);
  }
  target += 0.3 * tmp + pair[2];
  for (i in 1:N) {  // scan
    target += -0.2 * square(flow - a[i]);
    flow = a[i] + x[i] * b;
  }
  for (i in 1:N) {  // scan
    if (seen[i]) carried = a[i];
    locf[i] = carried;
  }
  for (i in 1:N) {
    real inside;
    if (seen[i]) {
      inside = a[i];
      last = i * a[i];
    } else {
      inside = b;
    }
    target += -inside ^ 2 * 0.05;
  }
  for (i in 1:N) {  // scan
    buffer[1 + i % 2] = a[i];
    target += 0.1 * buffer[1] * x[i] + 0.2 * buffer[2];
  }
  target += -0.1 * dot_self(locf - x) - 0.01 * square(last) - square(flow) - square(b);
}
