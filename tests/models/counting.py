"""The counter of a target that has one."""

from essper.models import Counter, Counts, Target


def counter(target: Target) -> Counter:
    assert target.counter is not None
    return target.counter


def counts(target: Target) -> Counts:
    """(gradients, densities, failed) since the last reset."""
    return counter(target).read()
