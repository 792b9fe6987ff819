"""README.md's Python lines run as they stand there."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def test_the_python_examples_of_the_readme_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, Any] = {}
    exec(compile(blocks[0], "README.md", "exec"), names)
    run = names["run"]
    assert run.draws.shape[0] == 4
    spent = run.warmup.gradients + run.sampling.gradients
    assert run.executed.gradients == spent.sum()
    assert (spent < 110_000).all()
    posterior = names["arviz"].summary(run.to_datatree())
    assert {"mu", "tau", "theta[0]"} <= set(posterior.index)
    exec(compile(blocks[1], "README.md", "exec"), names)
    assert names["target"].dim == 1
    assert names["run"].target.name.startswith("funnel")
    exec(compile(blocks[2], "README.md", "exec"), names)
    assert names["target"].backend == "jax (lowered, float64)"
    assert names["target"].agreement.gradient_error < 1e-8
    assert [loop.mode for loop in names["target"].lowered.explain().loops] == ["scan"]


def test_the_two_commands_stand_at_the_top() -> None:
    top = (ROOT / "README.md").read_text(encoding="utf-8")[:600]
    assert "make demo" in top
    assert "make test" in top
