"""Threads, lifetimes and processes: what must hold however many of them there are."""

import gc
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import counter, counts
from essper.models import Counts, ffi_status, from_stan, last_error
from essper.models.ffi import build

LANES = np.random.default_rng(1).normal(size=(24, 2))
LANES[[3, 17], 0] = 101.0  # throws
LANES[8, 0] = -101.0  # gradient not finite


def until(condition):
    """Waits for other threads; a test that waits for ever is stopped here."""
    for _ in range(20_000):
        if condition():
            return
        time.sleep(1e-3)
    raise TimeoutError


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has nothing to split")
def test_large_batches_use_several_threads_and_change_nothing(toy):
    path, controls = toy()
    batch = jax.jit(jax.vmap(lambda d, x: d.value_and_grad(x), (None, 0)))
    serial = from_stan(path, ffi="ffi", parallel=False)
    expected = jax.block_until_ready(batch(serial.density, LANES))
    controls.toy_pause(500)
    controls.toy_most_active()
    jax.block_until_ready([batch(serial.density, LANES) for _ in range(2)])
    assert controls.toy_most_active() == 1

    parallel = from_stan(path, ffi="ffi")
    jax.block_until_ready(batch(parallel.density, LANES))  # measures what one evaluation takes
    assert controls.toy_most_active() == 1
    counter(parallel).reset()
    got = jax.block_until_ready(batch(parallel.density, LANES))
    assert controls.toy_most_active() > 1
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.isneginf(got[0]).sum() == 3
    assert counts(parallel) == Counts(gradients=24, densities=0, failed=3)
    assert last_error(parallel) in ("x[1] is too large", "the gradient is not finite")

    values = jax.jit(jax.vmap(lambda d, x: d.log_density(x), (None, 0)))
    for _ in range(2):
        np.testing.assert_array_equal(values(parallel.density, LANES)[:8], expected[0][:8])
    assert controls.toy_most_active() > 1
    assert counts(parallel) == Counts(24, 48, 7)


def run_in_threads(targets, ffi):
    start = threading.Barrier(len(targets))

    def evaluate(target):
        start.wait()
        jax.block_until_ready(jax.vmap(target.value_and_grad)(LANES[:12]))

    threads = [threading.Thread(target=evaluate, args=(t,)) for t in targets]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def test_models_that_are_not_thread_safe_take_turns(toy, ffi):
    # also two models of one library: such builds share one autodiff stack
    path, controls = toy(threads=False)
    targets = [from_stan(path, ffi=ffi) for _ in range(2)]
    run_in_threads(targets, ffi)
    controls.toy_pause(500)
    controls.toy_most_active()
    run_in_threads([targets[0], *targets], ffi)
    assert controls.toy_most_active() == 1
    assert [counts(t).gradients for t in targets] == [36, 24]


def test_thread_safe_models_run_at_the_same_time(toy, ffi):
    # the counterpart: without it the test above could pass for want of any concurrency
    path, controls = toy()
    targets = [from_stan(path, ffi=ffi, parallel=False) for _ in range(2)]
    jax.block_until_ready([t.value_and_grad(jnp.ones(2)) for t in targets])  # compiled: that may take turns
    controls.toy_hold(True)
    threads = [
        threading.Thread(target=lambda t=t: jax.block_until_ready(t.value_and_grad(jnp.ones(2))))
        for t in targets
    ]
    for t in threads:
        t.start()
    try:
        until(lambda: controls.toy_active() == 2)
    finally:
        controls.toy_hold(False)
        for t in threads:
            t.join()


def test_model_outlives_an_execution_in_flight(toy, ffi):
    path, controls = toy()
    target = from_stan(path, ffi=ffi)
    density, results = target.density, []
    controls.toy_hold(True)
    thread = threading.Thread(target=lambda: results.append(jax.jit(density.value_and_grad)(jnp.ones(2))))
    thread.start()
    until(lambda: controls.toy_active() == 1)
    del target
    gc.collect()
    freed_in_flight = controls.toy_destructed()
    controls.toy_hold(False)
    thread.join()
    assert freed_in_flight == 0
    np.testing.assert_array_equal(results[0][1], [-1.0, -1.0])
    with pytest.raises(Exception, match="has been freed"):
        jax.block_until_ready(density.value_and_grad(jnp.ones(2)))
    from_stan(path, ffi=ffi)  # freed at once, and with it what had been in use
    gc.collect()
    assert controls.toy_destructed() == 2


def test_target_keeps_its_model(programs, ffi):
    target = from_stan(programs.regression, programs.first, ffi=ffi)
    function = target.log_density
    expected = target.model.log_density(np.ones(3))
    del target
    gc.collect()
    assert float(function(jnp.ones(3))) == expected


PROGRAM = "parameters { real x; } model { x ~ normal(0, 1); }"


def first_use(cache, barrier, results):
    os.environ["ESSPER_CACHE"] = str(cache)
    from essper.models import ffi_status, from_stan

    barrier.wait()
    value = float(from_stan(PROGRAM, ffi="ffi").log_density(jnp.ones(1)))
    results.put((value, ffi_status().library))


def test_processes_that_build_the_handler_at_the_same_time(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    processes = [context.Process(target=first_use, args=(tmp_path, barrier, results)) for _ in range(2)]
    for p in processes:
        p.start()
    got = [results.get(timeout=60) for _ in processes]
    for p in processes:
        p.join()
    libraries = list((tmp_path / "ffi").iterdir())
    assert len(libraries) == 1  # and nothing half-made beside it
    assert got == [(-0.5, str(libraries[0]))] * 2


def python(code, **environment):
    env = os.environ | {k: str(v) for k, v in environment.items()}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)


def test_without_a_compiler_the_callback_serves_and_says_so_once(tmp_path):
    done = python(
        f"""
from essper.models import ffi_status, from_stan
targets = [from_stan({PROGRAM!r}) for _ in range(3)]
print(targets[0].backend, float(targets[0].log_density([1.0])), ffi_status().available)
try:
    from_stan({PROGRAM!r}, ffi="ffi")
except RuntimeError as error:
    print(error)
""",
        CXX="no-such-compiler",
        ESSPER_CACHE=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "callback) -0.5 False" in done.stdout
    assert "no C++ compiler found (looked for no-such-compiler)" in done.stdout
    assert done.stderr.count("called through Python") == 1


def test_compiler_that_fails_is_reported(tmp_path):
    done = python(
        "from essper.models import ffi_status; print(ffi_status())", CXX="false", ESSPER_CACHE=tmp_path
    )
    assert "available=False" in done.stdout
    assert "the C++ compiler false does not run" in done.stdout


def test_float64_mode_is_required():
    done = python(f"""
import jax
from essper.models import from_stan, standard_gaussian
target = from_stan({PROGRAM!r})
jax.config.update("jax_enable_x64", False)
for attempt in (lambda: from_stan({PROGRAM!r}), lambda: target.log_density([1.0]),
                lambda: jax.jit(target.value_and_grad)([1.0])):
    try:
        print(attempt())
    except RuntimeError as error:
        print("refused:", error)
""")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("refused: Stan computes in float64") == 3


def test_every_source_of_the_handler_decides_its_name_in_the_cache(tmp_path, monkeypatch):
    sources = [path for path in build.SOURCE.parent.iterdir() if path.suffix in (".cc", ".h")]
    for path in sources:
        shutil.copy(path, tmp_path)
    assert {"handler.cc", "registry.h"} < {path.name for path in sources}
    name = build._key("a compiler")
    monkeypatch.setattr(build, "SOURCE", tmp_path / "handler.cc")
    assert build._key("a compiler") == name != build._key("another compiler")
    names = {name}
    for path in sources:
        with (tmp_path / path.name).open("a") as file:
            file.write("// changed\n")
        names.add(build._key("a compiler"))
    assert len(names) == 1 + len(sources)


def test_status_names_what_is_used():
    status = ffi_status()
    assert status.available
    assert os.path.exists(status.library)
    assert status.compiler
