// A two-dimensional standard Gaussian behind BridgeStan's C interface, which misbehaves on demand:
// x[0] > 100 throws, x[0] < -100 gives a gradient that is not finite, and evaluations can be held.

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>

namespace {
std::atomic<bool> held{false};
std::atomic<int> active{0}, most_active{0}, destructed{0}, pause_us{0};

struct Active {
  Active() {
    const int now = ++active;
    int most = most_active;
    while (now > most && !most_active.compare_exchange_weak(most, now)) {
    }
    std::this_thread::sleep_for(std::chrono::microseconds(pause_us));
    while (held) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ~Active() { --active; }
};

int fail(const char* text, char** error) {
  *error = strdup(text);
  return 1;
}
}  // namespace

extern "C" {
int bs_major_version = MAJOR, bs_minor_version = MINOR, bs_patch_version = PATCH;

void toy_hold(bool on) { held = on; }
void toy_pause(int us) { pause_us = us; }
int toy_active() { return active; }
int toy_most_active() { return most_active.exchange(0); }
int toy_destructed() { return destructed; }

void* bs_model_construct(const char* data, unsigned, char** error) {
  if (std::strstr(data, "bad")) return fail("bad data", error), nullptr;
  return new int(0);
}
void bs_model_destruct(void* m) {
  ++destructed;
  delete static_cast<int*>(m);
}
void bs_free_error_msg(char* error) { free(error); }
void bs_set_print_callback(void*, char**) {}
const char* bs_name(void*) { return "toy_model"; }
const char* bs_model_info(void*) {
#ifdef THREADS
  return "STAN_THREADS=true";
#else
  return "STAN_THREADS=false";
#endif
}
const char* bs_param_names(void*, bool, bool) { return "x.1,x.2"; }
const char* bs_param_unc_names(void*) { return "x.1,x.2"; }
int bs_param_num(void*, bool, bool) { return 2; }
int bs_param_unc_num(void*) { return 2; }
int bs_param_constrain(void*, bool, bool, const double* x, double* out, void*, char** error) {
  if (x[0] > 100) return fail("x[1] is too large", error);
  std::memcpy(out, x, 2 * sizeof(double));
  return 0;
}
int bs_log_density(void*, bool, bool, const double* x, double* value, char** error) {
  const Active here;
  if (x[0] > 100) return fail("x[1] is too large", error);
  *value = -0.5 * (x[0] * x[0] + x[1] * x[1]);
  return 0;
}
int bs_log_density_gradient(void* m, bool p, bool j, const double* x, double* value, double* gradient,
                            char** error) {
  gradient[0] = x[0] < -100 ? INFINITY : -x[0];
  gradient[1] = -x[1];
  return bs_log_density(m, p, j, x, value, error);
}
int bs_param_unconstrain(void*, const double*, double*, char**) { return 1; }
int bs_param_unconstrain_json(void*, const char*, double*, char**) { return 1; }
int bs_param_initialize(void*, const char*, void*, double, int, bool, double*, char**) { return 1; }
int bs_log_density_hessian(void*, bool, bool, const double*, double*, double*, double*, char**) {
  return 1;
}
int bs_log_density_hessian_vector_product(void*, bool, bool, const double*, const double*, double*,
                                          double*, char**) {
  return 1;
}
}
