// functions: recursion, early returns, returns in loops, forward declarations, overloads, defaults of scoping
functions {
  real odd(int n, real x);
  real even(int n, real x) {
    if (n == 0) return x;
    return 0.5 * odd(n - 1, x + 1);
  }
  real odd(int n, real x) {
    if (n == 0) {
      return -x;
    }
    return 1 + even(n - 1, x * 0.9);
  }
  int fib(int n) {
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
  }
  vector total(vector v, int from) {
    vector[rows(v)] w = v * from;
    if (rows(v) < from) return v;
    return w + 0.5 * total(w, from + 1);
  }
  real total(row_vector v) {
    return 3 * sum(total(v', 2));
  }
  real total(array[] real v) {
    real s = 0;
    for (i in 1:size(v)) s = 0.5 * s + v[i];  // unroll
    return s;
  }
  real total(real v) {
    return -v;
  }
  int first_above(vector x, real limit) {
    for (i in 1:num_elements(x)) {  // unroll
      if (x[i] > limit) return i;
    }
    return 0;
  }
  real waited(data vector x, vector a) {
    int i = 1;
    real s = 7;
    while (i <= rows(x) && x[i] < 1) i += 1;
    if (i > rows(x)) return s;
    if (a[1] > 0) return a[1] * i;
    return sqrt(-a[1]);
  }
  real piecewise(real x) {
    if (x < -1) return -log(-x);
    if (x < 0) {
      real y = x * x;
      return y;
    } else if (x < 1) return sqrt(x);
    return log(x) + 1;
  }
  vector scale(vector x, real N) {
    vector[rows(x)] x_ = x;
    real a = N;
    for (i in 1:rows(x)) x_[i] *= a + i;
    return x_;
  }
  vector lengthen(vector x, int n) {
    vector[n] y = rep_vector(0.1, n);
    y[1:rows(x)] = x;
    return y;
  }
}
data {
  int N;
  vector[N] x;
}
transformed data {
  int f = fib(7);
  int where = first_above(x, 0.5);
}
parameters {
  vector[N] a;
  real b;
}
transformed parameters {
  vector[N] p;
  for (i in 1:N) p[i] = piecewise(a[i]) + odd(i, a[i]) + 0.1 * even(i % 3, b);
}
model {
  target += -dot_self(a) - square(b) - 0.01 * dot_self(p) + total(to_array_1d(a)) + total(b);
  target += f * b * 0.1 + a[where] + waited(x, a) + 0.1 * sum(scale(a, b)) - sum(lengthen(scale(a, 1), N + 2)) * 0.1;
  for (i in 1:N) {
    real x_ = sum(total(a, i)) + total(a');
    target += 0.01 * x_ + (first_above(x, 0.3 * i) > 0 ? a[i] : 0);
    target += 0.01 * sum(lengthen(a, N + i)) * i;
  }
}
