"""Tables: the same numbers and words back, and a clear no to what csv would lose."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embryo.core.errors import StoreError
from embryo.core.store import read_table, write_table

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
words = st.text(characters, max_size=8)
cells = {
    "float64": st.floats(),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
    "object": words
    | st.sampled_from(["1", "1.5", "nan", "NaN", "NA", "", "inf", "-3", "a,b", 'a"b', "a\nb", "a\r\nb"]),
}


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    rows = draw(st.integers(1, 5))
    names = draw(st.lists(st.text(characters, min_size=1, max_size=5), min_size=1, max_size=4, unique=True))
    columns = {}
    for name in names:
        kind = draw(st.sampled_from(sorted(cells)))
        entries = draw(st.lists(cells[kind], min_size=rows, max_size=rows))
        if kind == "object" and set(entries) <= {"True", "False"}:
            entries[0] = "x"
        columns[name] = pd.Series(entries, dtype=kind)
    return pd.DataFrame(columns)


@settings(deadline=None)
@given(df=tables())
def test_there_and_back_is_exact(df: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    write_table(df, path)
    pd.testing.assert_frame_equal(read_table(path), df, check_exact=True)


def test_other_types_come_back_as_the_plain_ones(tmp_path: Path) -> None:
    df = pd.DataFrame(
        {
            "half": np.array([0.1, np.nan], np.float32),
            "kind": pd.Categorical(["a", None]),
            "count": pd.array([1, None], dtype="Int64"),
            "small": np.array([1, 2], np.uint8),
            "big": np.array([1, 2**64 - 1], np.uint64),
            "gene": ["pha-4", None],
        }
    )
    before = df.copy()
    write_table(df, tmp_path / "x.csv")
    pd.testing.assert_frame_equal(df, before)
    expected = pd.DataFrame(
        {
            "half": [float(np.float32(0.1)), np.nan],
            "kind": ["a", ""],
            "count": [1.0, np.nan],
            "small": [1, 2],
            "big": np.array([1, 2**64 - 1], np.uint64),
            "gene": ["pha-4", ""],
        }
    )
    pd.testing.assert_frame_equal(read_table(tmp_path / "x.csv"), expected, check_exact=True)


def test_pandas_reads_the_same_numbers(tmp_path: Path) -> None:
    df = pd.DataFrame({"gene": ["a", "b"], "distance_um": [0.1 + 0.2, np.nan], "n": [3, 4]})
    write_table(df, tmp_path / "x.csv")
    by_pandas = pd.read_csv(tmp_path / "x.csv", float_precision="round_trip")
    pd.testing.assert_frame_equal(by_pandas, df, check_exact=True)


def test_a_table_of_another_hand_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("gene,level,n,on\na,0.5,1,True\nb,nan,2,False\n")
    expected = pd.DataFrame({"gene": ["a", "b"], "level": [0.5, np.nan], "n": [1, 2], "on": [True, False]})
    pd.testing.assert_frame_equal(read_table(tmp_path / "x.csv"), expected)


def test_a_table_without_rows_keeps_its_columns(tmp_path: Path) -> None:
    write_table(pd.DataFrame({"a": [], "b": []}), tmp_path / "x.csv")
    assert (list(read_table(tmp_path / "x.csv").columns), len(read_table(tmp_path / "x.csv"))) == (["a", "b"], 0)


def test_what_csv_would_lose_is_listed_and_nothing_written(tmp_path: Path) -> None:
    df = pd.DataFrame([[1, "a", 1j, ["x"]], [2, 3, 2j, ["y"]]], columns=["n", "n", "z", 4], index=["r", "s"])
    with pytest.raises(StoreError) as caught:
        write_table(df, tmp_path / "x.csv")
    message = str(caught.value)
    for said in (
        "named twice: n",
        "columns ['n', 'n', 'z', 4]",
        "an index",
        "'n' with int",
        "'z' with complex",
        "list",
    ):
        assert said in message
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreError, match="names that are text"):
        write_table(pd.DataFrame(), tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "no header"),
        (b"\n", "no header"),
        (b"a,b\n1\n", "1 rows of another length.*the first is row 2"),
        (b"a,b\n1,2,3\n", "another length"),
        (b"a,b\n1,2\n3,4", "last line without its end"),
        (b"a,a\n1,2\n", "named twice: a"),
        (b'a,b\n1,"x', "cannot be read"),
        (b"a\n\xff\n", "cannot be read"),
    ],
)
def test_what_is_no_table_is_told(raw: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(raw)
    with pytest.raises(StoreError, match=said):
        read_table(tmp_path / "x.csv")


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"):
        read_table(tmp_path / "x.csv")
