"""Random programs of twenty operations, against a replay in complex numbers (see ``programs.py``).

``TINYGRAD_RNN_PROGRAMS=1000000 pytest tests/test_programs.py`` runs so many of them.
"""

import os
from dataclasses import replace

import numpy as np
import pytest
from programs import GROUPS, make, mismatch, op, shrunk

import tinygrad_rnn as tg

PROGRAMS = int(os.environ.get("TINYGRAD_RNN_PROGRAMS", 10_000))
CHUNK = max(1, PROGRAMS // 20)


def report(program):
    """A program that fails, made as small as it can be, and what is wrong."""
    smallest = shrunk(program)
    return f"seed {program.seed}: {mismatch(program)}\n\nThe same in small: {mismatch(smallest)}\n\n{smallest}\n"


@pytest.mark.parametrize("seed", range(0, PROGRAMS, CHUNK))
def test_gradients_of_random_programs(seed):
    compared = 0
    for i in range(seed, seed + CHUNK):
        program, margin = make(i)
        if margin < 1e-4:  # at a kink no slope can be compared; but it must run
            program.run()
            continue
        compared += 1
        if mismatch(program) is not None:
            pytest.fail(report(program))
    assert compared >= CHUNK / 2


def test_programs_are_what_they_should_be():
    """Every operation is drawn; values are reused; kinks, blocks without recording, and wide fan-outs are met."""
    drawn, widest, at_kinks, quiet, used = set(), 0, 0, 0, 0
    for seed in range(600):
        program, margin = make(seed)
        operations = [step for step in program.instructions if step.args]
        drawn |= {step.op.source for step in operations}
        at_kinks += margin < 1e-4
        quiet += any(step.no_grad for step in operations)
        uses = [i for step in operations for i in step.args]
        used += len(uses) - len(set(uses))
        widest = max(widest, max(map(uses.count, uses)))
        assert len(operations) >= 20
    missing = {operation.source for group in GROUPS for operation in group} - drawn
    assert not missing
    assert widest >= 8
    assert at_kinks > 5
    assert quiet > 50
    assert used > 600


def test_a_wrong_rule_is_found_and_shown_in_small():
    """The test can fail: a rule that is wrong by a ten-millionth, in a program of twenty, is found, and shown alone."""

    @tg.primitive
    def wrong(x):
        return np.tanh(x)

    wrong.vjp(lambda g, out: g * (1 - out * out) * (1 + 1e-7))
    broken = replace_tanh(wrong)
    found = next(p for p in map(broken, range(100)) if mismatch(p))
    smallest = shrunk(found)
    assert "the slope is" in mismatch(smallest)
    assert sum("wrong" in str(step) for step in smallest.instructions) == 1
    assert len(smallest.instructions) <= 3
    assert "v0 = tg.tensor(array(" in report(found)


def replace_tanh(wrong):
    """Programs in which tanh is another function."""
    new = op("wrong({0})", np.tanh)
    new = replace(new, run=wrong)

    def make_broken(seed):
        program, _ = make(seed)
        steps = [replace(s, op=new) if s.op.source == "tg.tanh({0})" else s for s in program.instructions]
        return replace(program, instructions=steps)

    return make_broken


def test_what_is_printed_can_be_run():
    """The text of a program gives the gradients that the program has."""
    program, _ = make(7)
    lines = str(program).splitlines()
    scope = {}
    exec("\n".join(lines[:-1]), scope)
    total = scope["total"]
    leaves = [i for i in program.leaves if scope[f"v{i}"].requires_grad]
    values = program.run()
    expected = sum((values[i] * g).sum() for i, g in program.outputs.items())
    assert np.allclose(total.data, expected.data, atol=1e-6)  # the text has eight digits of each number
    for got, right in zip(
        tg.gradients(total, [scope[f"v{i}"] for i in leaves]), tg.gradients(expected, [values[i] for i in leaves])
    ):
        assert np.allclose(got.data, right.data, rtol=1e-4, atol=1e-4)
