"""Files that are not what they seem."""

import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import zarr

from broken import make

ROWS = "cell,time,x,y,z\n" + "".join(f"c{k},{k % 3},{k * 7 % 11},{k * 5 % 13},{k * 3 % 17}\n" for k in range(30))
EPIC = "cellTime,cell,time,none,global,local,blot,cross,z,x,y,size,gweight\n"
KINDS = ".h5ad, .zarr (AnnData or SpatialData), .csv"


def _truncated(folder: Path) -> Path:
    path = make.h5ad(lambda _: None)(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def _hdf5(folder: Path) -> Path:
    with h5py.File(folder / "embryo.h5ad", "w") as file:
        file["matrix/data"] = np.arange(3)
    return folder / "embryo.h5ad"


def _zarr_damaged(folder: Path) -> Path:
    path = folder / "embryo.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the zarr format that a later anndata will write
        make.whole().write_zarr(path)
    for chunk in (path / "obs" / "time").rglob("*"):
        if chunk.is_file() and not chunk.name.startswith((".z", "zarr")):
            chunk.write_bytes(b"not what was written here")
    return path


def _zarr_other(folder: Path) -> Path:
    group = zarr.open_group(str(folder / "embryo.zarr"), mode="w")
    group.create_array("field", data=np.arange(4))
    return folder / "embryo.zarr"


def _folder(name: str, **content: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).mkdir()
        for stem, words in content.items():
            (folder / name / f"{stem}.txt").write_text(words)
        return folder / name

    return make


def _object_npz(folder: Path) -> Path:
    np.savez(folder / "embryo.npz", cells=np.array([{"a": 1}], dtype=object))
    return folder / "embryo.npz"


def _zipped(folder: Path) -> Path:
    return make.text(b"PK\x03\x04" + bytes(40), "embryo.h5ad")(folder)


FILES = {
    "missing path": make.Broken(
        lambda folder: folder / "none.h5ad", make.STORE, ("nothing at", "none.h5ad", KINDS, "check the path")
    ),
    "truncated h5ad": make.Broken(
        _truncated, make.STORE, ("damaged or incomplete", "an h5ad file", "copy, fetch or export it again")
    ),
    "text named h5ad": make.Broken(
        make.text("cell,time\n", "embryo.h5ad"),
        make.STORE,
        ("10 bytes that is not HDF5 (it is text)", "an h5ad file", "export it again"),
    ),
    "zip named h5ad": make.Broken(
        _zipped, make.STORE, ("not HDF5 (it is a zip archive)", "AnnData in HDF5", "check the ending")
    ),
    "empty h5ad": make.Broken(
        make.text("", "embryo.h5ad"), make.STORE, ("0 bytes that is not HDF5 (empty)", "an h5ad file")
    ),
    "HDF5 of another kind": make.Broken(
        _hdf5, make.STORE, ("HDF5 without obs and var (holds matrix)", "convert it to h5ad")
    ),
    "pickle": make.Broken(
        make.text(b"\x80\x04\x95" + bytes(20), "embryo.pkl"),
        make.STORE,
        ("the ending .pkl (it is a Python pickle)", KINDS, "may run code when they are opened are not read"),
    ),
    "npz with objects": make.Broken(
        _object_npz, make.STORE, ("the ending .npz (it is a zip archive)", KINDS, "may run code")
    ),
    "unknown ending": make.Broken(
        make.text("hello", "embryo.docx"), make.STORE, ("the ending .docx (it is text)", KINDS, "rename it")
    ),
    "no ending": make.Broken(make.text("hello", "embryo"), make.STORE, ("the ending (none) (it is text)", KINDS)),
    "folder without zarr metadata": make.Broken(
        _folder("embryo.zarr", notes="x"),
        make.STORE,
        (
            "a folder without zarr metadata (zarr.json or .zgroup)",
            "it holds notes.txt",
            "the folder that holds zarr.json",
        ),
    ),
    "empty folder": make.Broken(_folder("embryo"), make.STORE, ("it holds nothing", KINDS)),
    "folder named h5ad": make.Broken(_folder("embryo.h5ad"), make.STORE, ("a folder without zarr metadata", KINDS)),
    "zarr of another kind": make.Broken(
        _zarr_other, make.STORE, ("another kind (holds field)", "AnnData or a SpatialData", "write_zarr")
    ),
    "damaged zarr": make.Broken(_zarr_damaged, make.STORE, ("damaged or incomplete", "a zarr folder with an AnnData")),
    "empty csv": make.Broken(
        make.text(""), make.STORE, ("an empty file", "one header line and one row per cell", "cell,time,x,y,z")
    ),
    "csv with a header only": make.Broken(
        make.text("cell,time,x,y,z\n"), make.STORE, ("a header without rows", "export it as csv")
    ),
    "csv without a header": make.Broken(
        make.text("1,2,3\n4,5,6\n"),
        make.STORE,
        ("a first line of numbers (1, 2, 3)", "one header line", "add a header line"),
    ),
    "ragged csv": make.Broken(
        make.text(ROWS + "c1,2,3,4,5,6,7\n"), make.STORE, ("no table", "line 32", "export it as csv")
    ),
    "HDF5 named csv": make.Broken(
        make.text(b"\x89HDF\r\n\x1a\n" + bytes(99)), make.STORE, ("text that is no table", "a text table")
    ),
    "csv of another encoding": make.Broken(
        make.text(ROWS.encode("utf-16")), make.STORE, ("text that is no table", "a text table")
    ),
    "csv without units": make.Broken(
        make.text(ROWS), make.SCHEMA, ("2 problems", "no time_unit", "no space_unit", "--time-unit", "--space-unit")
    ),
    "csv without positions": make.Broken(
        make.text(ROWS.replace("x,y,z", "a,b,c")),
        make.SCHEMA,
        ('no obsm["spatial"]', "--key space="),
        keys=make.H,
        needs={"space": True},
    ),
    "csv with words for positions": make.Broken(
        make.text(ROWS.replace("c3,0,", "c3,0,left")),
        make.SCHEMA,
        ("position columns without numbers: x (", "correct the values"),
        keys=make.UM,
    ),
    "csv without its gene columns": make.Broken(
        make.text(ROWS),
        make.SCHEMA,
        ("no column wnt, bmp for genes", "correct the names (config read.keys.genes)"),
        keys=make.UM | {"genes": "wnt,bmp"},
    ),
    "EPIC tracks with lost rows": make.Broken(
        make.text(EPIC + "AB:1,AB,1,0,0,0,0,0,,,,80,1\n" * 9),
        make.SCHEMA,
        ("9 of 9 rows without", "numbers in nearly every row"),
    ),
    "EPIC tracks of one frame": make.Broken(
        make.text(
            EPIC
            + "".join(f"{c}:1,{c},1,0,0,0,5,0,{k},{k * k},{50 - k**3},80,1\n" for k, c in enumerate(["AB", "E", "P1"]))
        ),
        make.SCHEMA,
        ("1 distinct time", "at least 2"),
    ),
}
