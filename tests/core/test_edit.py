"""Edits: what is allowed, when they act, and the way to JSON and back."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embryo.core.edit import GENE_OPERATIONS, Edit, Operation, label
from embryo.core.errors import EditError

INF = math.inf
names = st.text(min_size=1, max_size=10).filter(str.strip)
finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def edits(draw: st.DrawFn) -> Edit:
    operation = draw(st.sampled_from(sorted(GENE_OPERATIONS)))
    dose = draw(st.floats(0, 1) if operation is Operation.KNOCKDOWN else st.floats(0, 50))
    ends = sorted(draw(st.lists(finite, min_size=2, max_size=2, unique=True)))
    t_on = draw(st.sampled_from([-INF, ends[0]]))
    t_off = draw(st.sampled_from([INF, ends[1]]))
    cell_type = draw(st.none() | names)
    return Edit(
        draw(names), operation, dose, t_on, t_off, cell_type, draw(st.floats(0, 1)), keep_pool=draw(st.booleans())
    )


@settings(deadline=None)
@given(edit=edits())
def test_json_and_back_is_the_identity(edit: Edit) -> None:
    text = json.dumps(edit.to_json(), allow_nan=False)
    assert Edit.from_json(json.loads(text)) == edit


def test_open_ends_are_none_in_json_and_infinite_in_the_record() -> None:
    record = Edit("pha-4").to_json()
    assert (record["t_on_h"], record["t_off_h"], record["operation"]) == (None, None, "knockout")
    edit = Edit.from_json({"gene": "pha-4"})
    assert (edit.t_on_h, edit.t_off_h) == (-INF, INF)
    assert Edit.from_json({"gene": "pha-4", "t_off_h": INF}) == edit


def test_whole_numbers_from_a_config_become_floats() -> None:
    edit = Edit.from_json({"gene": "a", "operation": "clamp", "dose": 2, "t_on_h": 1})
    assert (edit, type(edit.dose), type(edit.t_on_h)) == (Edit("a", Operation.CLAMP, 2.0, 1.0), float, float)


@settings(deadline=None)
@given(edit=edits(), t=finite)
def test_the_window_is_closed_on_the_left_and_open_on_the_right(edit: Edit, t: float) -> None:
    assert edit.active(t) == (not t < edit.t_on_h and t < edit.t_off_h)
    if math.isfinite(edit.t_on_h):
        assert edit.active(edit.t_on_h)
    if math.isfinite(edit.t_off_h):
        assert not edit.active(edit.t_off_h)


def test_the_label_names_operation_and_gene() -> None:
    assert Edit("pha-4", Operation.OVEREXPRESS, 2.0).label == "overexpress pha-4"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"gene": " "}, "without a gene"),
        ({"operation": Operation.KNOCKDOWN, "dose": 1.5}, r"knock-down dose 1\.5"),
        ({"operation": Operation.KNOCKDOWN, "dose": -0.1}, r"knock-down dose -0\.1"),
        ({"operation": Operation.CLAMP, "dose": -1.0}, r"dose -1\.0"),
        ({"operation": Operation.CLAMP, "dose": math.nan}, "dose nan"),
        ({"operation": Operation.OVEREXPRESS, "dose": INF}, "dose inf"),
        ({"operation": Operation.OVEREXPRESS, "dose": 1e9}, r"dose 1000000000\.0.*50 at most"),
        ({"t_on_h": 2.0, "t_off_h": 2.0}, r"window 2\.0 to 2\.0 h"),
        ({"t_on_h": 3.0, "t_off_h": 2.0}, "t_on before t_off"),
        ({"t_on_h": math.nan}, "window nan"),
        ({"fraction": 1.01}, r"fraction 1\.01"),
        ({"fraction": math.nan}, "fraction nan"),
    ],
)
def test_what_is_out_of_range_is_refused(wrong: dict, said: str) -> None:
    with pytest.raises(EditError, match=said) as caught:
        Edit(**{"gene": "a"} | wrong)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dose": "much"}, "dose = 'much'; expected a number"),
        ({"dose": True}, "dose = True; expected a number"),
        ({"t_on_h": "9"}, "t_on_h = '9'"),
        ({"fraction": [1]}, r"fraction = \[1\]"),
        ({"keep_pool": 1}, "keep_pool = 1; expected true or false"),
        ({"gene": 7}, "gene = 7; expected text. To cure it: put it in quotes"),
        ({"cell_type": 3}, "cell_type = 3; expected text"),
        ({"operation": "delete"}, "operation = 'delete'; expected one of knockout, knockdown"),
        ({"operation": ["knockout"]}, "operation ="),
        ({"gene": None}, "without a gene"),
        ({"t_on": 3.0}, "unknown key 't_on'.*write 't_on_h'"),
        ({5: 1}, "unknown key 5"),
    ],
)
def test_what_is_of_the_wrong_type_is_refused(wrong: dict, said: str) -> None:
    with pytest.raises(EditError, match=said) as caught:
        Edit.from_json({"gene": "a"} | wrong)
    assert len(caught.value.problems) == 1


def test_a_bad_record_lists_every_problem_at_once() -> None:
    record = {"operation": "delete", "dose": -2, "t_on_h": 5, "t_off_h": 1, "fraction": 3, "keep_pool": "no", "when": 1}
    with pytest.raises(EditError) as caught:
        Edit.from_json(record)
    text = str(caught.value)
    assert len(caught.value.problems) == 7
    for said in ("operation", "dose", "window", "fraction", "keep_pool", "'when'", "without a gene"):
        assert said in text


def test_a_record_is_not_modified() -> None:
    record = {"gene": "a", "dose": None}
    Edit.from_json(record)
    assert record == {"gene": "a", "dose": None}


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (Edit("a", Operation.CUT, target="b"), "cut a->b"),
        (Edit("l", Operation.BLOCK_LIGAND), "block-ligand l"),
        (Edit(operation=Operation.ABLATE, cell_type="gut"), "ablate gut"),
        (Edit(operation=Operation.GRAFT, file="some/donor.h5ad"), "graft donor.h5ad"),
    ],
)
def test_edits_of_edges_and_cells_have_labels_and_come_back_from_json(edit: Edit, said: str) -> None:
    assert edit.label == said
    assert Edit.from_json(json.loads(json.dumps(edit.to_json()))) == edit


def test_words_say_dose_cells_and_window() -> None:
    edit = Edit("a", Operation.KNOCKDOWN, 0.25, 2.0, 4.0, "gut", 0.5, region="ap<0.3", keep_pool=True)
    assert edit.words == "knockdown a to 0.25 in gut in ap<0.3 in 50% of them from 2 h to 4 h keeping the pool"


def test_a_program_is_named_once() -> None:
    assert label([Edit("a", program="wnt"), Edit("b", program="wnt"), Edit("c")]) == "knockout wnt + knockout c"
    assert label([]) == "no edit"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"operation": Operation.CUT}, "cut without a target"),
        ({"target": "b"}, "with cut only"),
        ({"operation": Operation.ABLATE, "gene": "a"}, "ablate of gene 'a'"),
        ({"operation": Operation.ABLATE, "gene": "", "t_off_h": 3.0}, "cannot be undone"),
        ({"operation": Operation.GRAFT, "gene": ""}, "graft without a file"),
        ({"operation": Operation.GRAFT, "gene": "", "file": "f", "cell_type": "gut"}, "stand where their file says"),
        ({"operation": Operation.BLOCK_LIGAND, "keep_pool": True}, "keep_pool with block-ligand"),
        ({"region": "up<3"}, "region 'up<3'"),
    ],
)
def test_parts_without_meaning_are_refused(wrong: dict, said: str) -> None:
    with pytest.raises(EditError, match=said) as caught:
        Edit(**{"gene": "a"} | wrong)
    assert len(caught.value.problems) == 1
