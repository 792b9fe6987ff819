// a transformed parameter outside its bounds is an error of Stan: the density is 0 there
parameters {
  real a;
  real b;
  vector[3] c;
}
transformed parameters {
  real<lower=-1.5> d = a - b;
  real<upper=3> e;
  vector<lower=-2.5, upper=2.5>[3] f = c * exp(0.1 * a);
  e = d * b;
}
model {
  target += -square(d) - square(e) - dot_self(f) - square(a);
}
