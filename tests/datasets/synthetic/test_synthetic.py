import numpy as np
import pytest

from embryo.core.edit import Edit, Operation
from embryo.core.errors import ConfigError, EditError
from embryo.datasets import synthetic
from embryo.datasets.synthetic import interventions, params
from embryo.datasets.synthetic.circuit import INDEX, PANEL

ALL = np.ones((1, 3), dtype=bool)


@pytest.mark.parametrize(
    ("operation", "dose", "expected"),
    [
        (Operation.KNOCKOUT, 0.0, 0.0),
        (Operation.KNOCKDOWN, 0.25, 0.1),
        (Operation.OVEREXPRESS, 0.5, 0.4 + 2.0 * 0.5),
    ],
)
def test_an_edit_changes_the_production_of_its_gene_alone(operation: Operation, dose: float, expected: float) -> None:
    before = np.full((3, len(PANEL)), 0.4)
    edits = [Edit("tail", operation, dose)]
    after = interventions.edited_production(edits, 1.0, ALL, before, np.full(len(PANEL), 2.0))
    np.testing.assert_allclose(after[:, INDEX["tail"]], expected)
    others = np.arange(len(PANEL)) != INDEX["tail"]
    np.testing.assert_array_equal(after[:, others], before[:, others])


def test_edits_outside_their_window_and_cells_outside_the_mosaic_are_left_alone() -> None:
    before = np.full((3, len(PANEL)), 0.4)
    late = [Edit("tail", t_on_h=5.0)]
    np.testing.assert_array_equal(interventions.edited_production(late, 1.0, ALL, before, np.ones(len(PANEL))), before)
    lot = np.array([0.1, 0.5, 0.9])
    np.testing.assert_array_equal(interventions.carriers([Edit("tail", fraction=0.6)], lot), [[True, True, False]])


def test_the_synthetic_embryo_names_every_edit_that_it_cannot_carry() -> None:
    edits = [Edit("tial"), Edit("head", cell_type="x"), *(Edit("dorsal", Operation.CLAMP, d) for d in (0.2, 0.8))]
    with pytest.raises(EditError, match=r"(?s)3 problems.*'tail'.*cell_type.*0\.2 and at 0\.8"):
        interventions.check(edits)


def test_times_off_the_grid_and_bad_numbers_are_told_together() -> None:
    assert params.steps(params.DEFAULT, [0.0, 1.0]) == {0, round(1 / params.DEFAULT.dt_h)}
    with pytest.raises(ConfigError, match=r"(?s)2 problems.*n_cells.*multiples of dt_h"):
        params.steps(params.Params(n_cells=0), [0.123456])


def test_embryos_are_named_by_their_edit() -> None:
    small = synthetic.Params(n_cells=40, mechanics=None, growth=None)
    dials = synthetic.Measurement(n_genes=20)
    common = {"n_embryos": 2, "seed": 1, "times_h": (0.0, 1.0), "params": small, "measurement": dials}
    assert set(synthetic.generate(**common).obs["embryo"]) == {"wt-0", "wt-1"}
    edited = synthetic.generate(edits=(Edit("tail"),), **common)
    assert set(edited.obs["embryo"]) == {"knockout tail-0", "knockout tail-1"}
    assert set(edited.obs["perturbation"]) == {"knockout tail"}
