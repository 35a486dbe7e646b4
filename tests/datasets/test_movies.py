from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from embryo.core.errors import SchemaError
from embryo.datasets.movies import Microscope, read

ROWS = [
    ("ABa", 1, 100, 200, 10.0, 5.0),
    ("ABa", 2, 110, 200, 10.5, -3.0),
    ("P2", 1, 300, 210, 12.0, 7.0),
    ("P2", 2, 301, 210, 12.0, 8.0),
]


def write(path: Path, rows: list[tuple], header: str = "cell,time,x,y,z,blot") -> Path:
    pd.DataFrame(rows, columns=header.split(",")).to_csv(path, index=False)
    return path


def test_units_and_names(tmp_path: Path) -> None:
    [movie] = read([write(tmp_path / "one.csv", ROWS)])
    assert movie.name == "one"
    assert movie.cells == ("ABa", "P2")
    np.testing.assert_allclose(movie.x_um[0], [9.0, 18.0, 10.0], rtol=1e-6)
    np.testing.assert_array_equal(movie.level, [5, -3, 7, 8])
    [other] = read([tmp_path / "one.csv"], Microscope(pixel_um=0.5, plane_um=2.0))
    np.testing.assert_allclose(other.x_um[1], [55.0, 100.0, 21.0], rtol=1e-6)
    assert movie.spans().loc["ABa"].tolist() == [1, 2]
    assert movie.x_um.dtype == np.float32


@pytest.mark.parametrize(
    "header",
    ["Cell , Time,X,Y,Z,blot", "cell name,Frame,x,y,z,blot", "name,timepoint,x,y,z,Blot", "Cell Name,t,x,y,z,blot"],
)
def test_other_headers(tmp_path: Path, header: str) -> None:
    [movie] = read([write(tmp_path / "m.csv", ROWS, header)])
    assert movie.cells == ("ABa", "P2")
    assert np.isfinite(movie.level).all()


def test_cell_from_cell_time(tmp_path: Path) -> None:
    rows = [(f"{c}:{t}", t, x, y, z, b) for c, t, x, y, z, b in ROWS]
    [movie] = read([write(tmp_path / "m.csv", rows, "cellTime,time,x,y,z,blot")])
    assert movie.cells == ("ABa", "P2")


def test_no_reporter_is_not_measured(tmp_path: Path) -> None:
    [movie] = read([write(tmp_path / "m.csv", [r[:5] for r in ROWS], "cell,time,x,y,z")])
    assert np.isnan(movie.level).all()


def test_bad_rows_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [
        *ROWS,
        ("ABp", 1, np.nan, 1, 1, 1),
        (None, 1, 1, 1, 1, 1),
        ("polar1", 1, 5, 5, 5, 1),
        ROWS[0],  # the same row again
        ("P2", 2, 350, 250, 13.0, 9.0),  # another nucleus of that name
        ("Nuc4", 2, 1, 2, 3, np.nan),
    ]
    [movie] = read([write(tmp_path / "m.csv", rows)])
    assert movie.cells == ("ABa", "Nuc4", "P2", "P2#2")
    assert len(movie) == 6
    assert dict(movie.dropped) == {
        "rows without name, frame or position": 2,
        "polar body rows": 1,
        "repeated rows": 1,
        "second nuclei of one name, renamed": 1,
    }


def test_all_broken_files_are_listed(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "binary.csv").write_bytes(b"\x89HDF\xff\xfe\x00\x01\n\xff")
    files = [
        write(tmp_path / "fine.csv", ROWS),
        tmp_path / "empty.csv",
        tmp_path / "binary.csv",
        write(tmp_path / "columns.csv", [(1, 2)], "x,y"),
        write(tmp_path / "lost.csv", [("ABa", k, np.nan, 1, 1, 1) for k in range(5)]),
        write(tmp_path / "words.csv", [("ABa", "one", "a", "b", "c", "d")]),
        write(tmp_path / "header.csv", []),
        tmp_path / "absent.csv",
    ]
    with pytest.raises(SchemaError) as caught:
        read(files)
    text = str(caught.value)
    for name in ("empty", "binary", "columns", "lost", "words", "header", "absent"):
        assert f"{name}.csv" in text
    assert "no column cell, time, z" in text
    assert "fine.csv" not in text


def test_two_files_of_one_name_and_no_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(SchemaError, match="2 files named m"):
        read([write(tmp_path / "m.csv", ROWS), write(tmp_path / "b" / "m.csv", ROWS)])
    with pytest.raises(SchemaError, match="no files"):
        read([])


def test_microscope_refuses_nonsense() -> None:
    with pytest.raises(SchemaError) as caught:
        Microscope(pixel_um=0.0, frame_min=float("nan"))
    assert len(caught.value.problems) == 2


def test_the_input_file_is_not_changed(tmp_path: Path, film: Callable[..., pd.DataFrame]) -> None:
    film().to_csv(tmp_path / "m.csv", index=False)
    before = (tmp_path / "m.csv").read_bytes()
    read([tmp_path / "m.csv"])
    assert (tmp_path / "m.csv").read_bytes() == before
