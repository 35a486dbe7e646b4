import torch

from embryo.fit import circuit, ensemble
from embryo.fit.circuit import Phase, Settings
from embryo.fit.moments import Series, Stage


def series(cells: int = 60, *, own: bool = False) -> Series:
    draw = torch.Generator().manual_seed(0)
    stages = []
    for t in range(3):
        m = torch.rand(cells, 1, generator=draw).double()
        who = torch.arange(cells) % 3 + (3 * t if own else 0)
        stages.append(Stage(float(t), m * (1 - 0.5**t), m, m[:, :0], m, who))
    return Series(tuple(stages))


def test_embryos_are_drawn_whole() -> None:
    drawn = ensemble.resampled(series(), 1)
    counts = [stage.embryo.bincount(minlength=3).tolist() for stage in drawn.stages]
    assert counts[0] == counts[1] == counts[2]
    assert set(counts[0]) <= {0, 20, 40, 60}


def test_embryos_of_one_stage_are_drawn_within_it() -> None:
    drawn = ensemble.resampled(series(own=True), 1)
    assert [len(stage.y) for stage in drawn.stages] == [60, 60, 60]
    assert set(drawn.stages[2].embryo.tolist()) <= {6, 7, 8}


def test_members_differ_and_the_first_fit_is_left_alone() -> None:
    settings = Settings(places=5, cells=60, phases=(Phase(iterations=5),))
    data = [series()]
    fitted = circuit.fit(data, settings, seed=0)
    before = fitted.numbers.weights.detach().clone()
    one, two = ensemble.ensemble(fitted, data, 2, seed=0)
    again, _ = ensemble.ensemble(fitted, data, 2, seed=0)
    assert torch.equal(before, fitted.numbers.weights.detach())
    assert not torch.equal(one.numbers.weights, two.numbers.weights)
    assert torch.equal(one.numbers.weights, again.numbers.weights)
