"""The examples in the samplers' documentation run as they stand there."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from essper.models.conditionals import KNOWN

GIBBS = (Path(__file__).parents[1] / "docs" / "samplers" / "gibbs.md").read_text(encoding="utf-8")


def executed(heading: str, blocks: int) -> dict[str, Any]:
    """What the Python blocks of a section leave behind."""
    section = GIBBS.split(f"## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(found) == blocks
    names: dict[str, Any] = {"__name__": "gibbs_examples"}
    for block in found:
        exec(compile(block, "gibbs.md", "exec"), names)
    return names


def test_composing_a_sampler() -> None:
    names = executed("Composing a sampler", 2)
    assert abs(np.corrcoef(names["run"].draws.reshape(-1, 2).T)[0, 1] - 0.9) < 0.05


def test_the_collapsed_and_the_blocked_sampler() -> None:
    """They hold themselves against quadrature, and against one another."""
    names = executed("Collapsed and blocked samplers", 4)
    assert set(names["ess"]) == {"one by one", "blocked", "collapsed"}


def test_gibbs_diffusion() -> None:
    names = executed("Gibbs diffusion", 1)
    assert names["denoised"].shape == (16, 16)
    truth, noisy = names["truth"].x, names["truth"].y
    assert np.mean((names["denoised"] - truth) ** 2) < np.mean((noisy - truth) ** 2)
    assert names["run"].info.extra["score_evaluations"].max() == 31


def test_the_table_has_all_models_with_exact_conditionals() -> None:
    assert [name for name in KNOWN if f"`{name}`" not in GIBBS] == []
