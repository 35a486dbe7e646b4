"""Errors say what was found, what was expected and the cure, all problems at once."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embryo.core import errors
from embryo.core.errors import EmbryoError, Problem

words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=12)
problems = st.builds(Problem, words, words, words)
kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EmbryoError)]


def test_one_problem_reads_as_a_sentence() -> None:
    error = EmbryoError(Problem("2 NaN", "finite numbers", "drop them"), subject="a.h5ad")
    assert str(error) == "a.h5ad: found 2 NaN; expected finite numbers. To cure it: drop them."


@settings(deadline=None)
@given(many=st.lists(problems, min_size=2, max_size=6), subject=words)
def test_every_problem_is_listed_and_numbered(many: list[Problem], subject: str) -> None:
    lines = str(EmbryoError(*many, subject=subject)).splitlines()
    assert lines[0] == f"{subject}: {len(many)} problems"
    assert len(lines) == len(many) + 1
    for number, (line, problem) in enumerate(zip(lines[1:], many, strict=True), 1):
        assert line == f"  {number}. {problem}"


@pytest.mark.parametrize("kind", kinds)
def test_every_error_is_an_embryo_error_with_its_parts(kind: type[EmbryoError]) -> None:
    problem = Problem("a", "b", "c")
    with pytest.raises(EmbryoError) as caught:
        raise kind(problem, subject="s")
    assert type(caught.value) is kind
    assert caught.value.problems == (problem,)


@pytest.mark.parametrize("kind", kinds)
def test_errors_survive_the_way_to_another_process(kind: type[EmbryoError]) -> None:
    error = kind(Problem("a", "b", "c"), Problem("d", "e", "f"), subject="s")
    for twin in (copy.copy(error), copy.deepcopy(error)):  # the same protocol that carries them between processes
        assert type(twin) is kind
        assert (twin.problems, twin.subject, str(twin)) == (error.problems, "s", str(error))
