"""A whole AnnData, and the ways to break one thing in it before it is written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.spatial.transform import Rotation

CELLS, TIMES, EMBRYOS, GENES = 45, 3, 2, 6
N = CELLS * TIMES * EMBRYOS  # 270 rows

SCHEMA, STORE, CONFIG = "SchemaError", "StoreError", "ConfigError"
H, UM = {"time_unit": "h"}, {"time_unit": "h", "space_unit": "um"}


def whole(*, unit: float = 1.0, noise: float = 0.5) -> AnnData:
    """Return two tracked embryos that keep the contract: 45 named cells at 3 times each, counts, positions in µm."""
    rng = np.random.default_rng(7)
    start = rng.normal(size=(CELLS, 3)) * [30.0, 18.0, 10.0]
    drift = rng.normal(size=(CELLS, 3))
    turn = Rotation.from_euler("xyz", [0.4, -1.1, 2.0]).as_matrix()
    x, rows = [], []
    for e in range(EMBRYOS):
        for t in range(TIMES):
            place = start + t * drift + noise * rng.normal(size=(CELLS, 3))
            x.append(place @ turn.T + [5.0, 0.0, -3.0] if e else place)
            rows += [(6.0 + 2 * t, f"e{e}", f"c{k}", ["skin", "gut"][k % 2]) for k in range(CELLS)]
    obs = pd.DataFrame(rows, columns=["time", "embryo", "cell", "cell_type"])
    obs.index = obs.embryo + ":" + obs.cell + ":" + obs.time.astype(str)
    obs = obs.astype({"embryo": "category", "cell": "category", "cell_type": "category"})
    counts = sparse.csr_matrix(rng.poisson(3.0, size=(N, GENES)).astype(np.float32) + np.eye(N, GENES, dtype="f4"))
    adata = AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"gene{k}" for k in range(GENES)]))
    adata.layers["counts"] = counts.copy()
    adata.obsm["spatial"] = np.concatenate(x) * unit
    adata.uns["embryo"] = {"time_unit": "h", "space_unit": "um", "frame": "raw", "expression": "counts"}
    return adata


def foreign(*, unit: float = 1.0) -> AnnData:
    """Return the same cells as other systems store them: no units stated, time in ``obs["time"]``."""
    adata = whole(unit=unit)
    del adata.uns["embryo"]
    return adata


@dataclass(frozen=True)
class Broken:
    """One broken input.

    `make` writes it into a folder and returns its path; `error` is the type that must be raised; `says` are pieces of
    the message: what was found, what was expected and the cure; `keys` and `needs` are passed to the reader.
    """

    make: Callable[[Path], Path]
    error: str
    says: tuple[str, ...]
    keys: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    path: Path = Path()

    def written(self, folder: Path) -> "Broken":
        """Return a copy whose `path` lies in `folder`."""
        return replace(self, path=self.make(folder))

    @property
    def argv(self) -> list[str]:
        """Words after ``embryo check``."""
        units = {"time_unit": "--time-unit", "space_unit": "--space-unit"}
        words = [str(self.path)]
        for name, value in self.keys.items():
            words += [units[name], value] if name in units else ["--key", f"{name}={value}"]
        return words


def h5ad(change: Callable[[AnnData], AnnData | None], source: Callable[[], AnnData] = whole) -> Callable[[Path], Path]:
    """Return a maker that writes the changed AnnData with anndata itself."""

    def make(folder: Path) -> Path:
        adata = source()
        changed = change(adata)
        (adata if changed is None else changed).write_h5ad(folder / "embryo.h5ad")
        return folder / "embryo.h5ad"

    return make


def text(content: str | bytes, name: str = "tracks.csv") -> Callable[[Path], Path]:
    """Return a maker that writes a file with this content."""

    def make(folder: Path) -> Path:
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)
        return folder / name

    return make


def column(name: str, value: Callable[[AnnData], Any]) -> Callable[[AnnData], None]:
    def change(adata: AnnData) -> None:
        adata.obs[name] = value(adata)

    return change


def drop(column: str) -> Callable[[AnnData], None]:
    def change(adata: AnnData) -> None:
        adata.obs = adata.obs.drop(columns=column)

    return change


def renamed(adata: AnnData) -> None:
    adata.obs = adata.obs.rename(columns={"time": "my_day_count"})


def time(at: Mapping[int, float]) -> Callable[[AnnData], None]:
    def change(adata: AnnData) -> None:
        values = adata.obs["time"].to_numpy(copy=True)
        values[list(at)] = list(at.values())
        adata.obs["time"] = values

    return change


def space(f: Callable[[np.ndarray], np.ndarray], embryo: str | None = None) -> Callable[[AnnData], None]:
    """Change positions: of one embryo, or of all."""

    def change(adata: AnnData) -> None:
        x = np.array(adata.obsm["spatial"])
        if embryo is None:
            x = f(x)
        else:
            x[(adata.obs["embryo"] == embryo).to_numpy()] = f(x[(adata.obs["embryo"] == embryo).to_numpy()])
        adata.obsm["spatial"] = x

    return change


def put(x: np.ndarray, rows: list[int], value: float) -> np.ndarray:
    x[rows, 1] = value
    return x


def counts(f: Callable[[np.ndarray], np.ndarray]) -> Callable[[AnnData], None]:
    def change(adata: AnnData) -> None:
        values = f(adata.layers["counts"].toarray())
        adata.layers["counts"] = sparse.csr_matrix(values)
        adata.X = sparse.csr_matrix(values)

    return change


def cells_to(rows: list[int], value: float) -> Callable[[np.ndarray], np.ndarray]:
    def f(values: np.ndarray) -> np.ndarray:
        values[rows, 2] = value
        return values

    return f


def scaled(values: np.ndarray) -> np.ndarray:
    return values / values.sum(axis=1, keepdims=True) * 1e4


def meta(**changes: Any) -> Callable[[AnnData], None]:
    """Change ``uns``; None removes a key."""

    def change(adata: AnnData) -> None:
        held = dict(adata.uns["embryo"]) | changes
        adata.uns["embryo"] = {k: v for k, v in held.items() if v is not None}

    return change


def genes_twice(adata: AnnData) -> None:
    adata.var_names = ["gene0", "gene0", "gene2", "gene2", "gene4", "gene5"]


def rows_twice(adata: AnnData) -> AnnData:
    adata.obs_names = ["same", "same", *adata.obs_names[2:]]
    return adata


def cell_twice(adata: AnnData) -> None:
    cells = adata.obs["cell"].astype(str).to_numpy()
    cells[1] = cells[0]
    adata.obs["cell"] = pd.Categorical(cells)


def empty_type(adata: AnnData) -> None:
    adata.obs["cell_type"] = adata.obs["cell_type"].cat.add_categories(["ghost"])


def no_counts(adata: AnnData) -> None:
    adata.X = np.log1p(adata.X.toarray() / 7)
    del adata.layers["counts"]
    adata.uns["embryo"]["expression"] = "log1p"


def no_embryo(adata: AnnData) -> None:
    names = adata.obs["embryo"].astype(object).to_numpy()
    names[[4, 9]] = None
    adata.obs["embryo"] = pd.Categorical(names)


def panel(adata: AnnData) -> None:
    adata.obsm["X_panel"] = np.ones((N, 3))
    adata.uns["embryo"]["panel"] = ["a", "b"]


def embedding(adata: AnnData) -> None:
    z = np.ones((N, 4))
    z[[2, 5], 1] = np.nan
    adata.obsm["X_embed"] = z


def motions(rotation: np.ndarray) -> Callable[[AnnData], None]:
    return meta(motions={"e0": np.eye(3), "e1": rotation})


def everything(adata: AnnData) -> None:
    """Break five things at once."""
    time({3: np.nan})(adata)
    space(lambda x: put(x, [8], np.inf))(adata)
    space(lambda x: x * [1, 1, -1], "e1")(adata)
    counts(cells_to([0], -4))(adata)
    genes_twice(adata)


def words(adata: AnnData) -> None:
    adata.obs["time"] = np.where(adata.obs["time"] < 7, "E6.5", np.where(adata.obs["time"] < 9, "HH10", "E8.5"))


def stages(adata: AnnData) -> None:
    adata.obs["time"] = np.where(adata.obs["time"] < 7, "E6.5", np.where(adata.obs["time"] < 9, "E7.0", "E7.5"))


def same(a: AnnData, b: AnnData, *, rtol: float = 0.0) -> None:
    """Two AnnData hold the same, to the last bit unless `rtol` is given; what was read from where aside."""
    pd.testing.assert_frame_equal(a.obs, b.obs, check_exact=not rtol, rtol=rtol, check_column_type=False)
    pd.testing.assert_frame_equal(a.var, b.var)
    for left, right in [(a.X, b.X), *((a.layers[k], b.layers[k]) for k in a.layers)]:
        np.testing.assert_array_equal(dense(left), dense(right))
        assert sparse.issparse(left) == sparse.issparse(right)
    assert set(a.layers) == set(b.layers)
    assert set(a.obsm) == set(b.obsm)
    for slot in a.obsm:
        np.testing.assert_allclose(a.obsm[slot], b.obsm[slot], rtol=rtol, atol=0)
    notes = [{k: v for k, v in x.uns["embryo"].items() if k != "read"} for x in (a, b)]
    assert notes[0] == notes[1]


def dense(matrix: Any) -> np.ndarray:
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)
