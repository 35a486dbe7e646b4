"""Anything that AnnData lets in: columns, positions, matrices and notes of every kind"""

import numpy as np
import pandas as pd
from anndata import AnnData
from hypothesis import strategies as st
from scipy import sparse

ODD_COLUMNS = {
    "lists": lambda n: [[k] for k in range(n)],
    "dicts": lambda n: [{} for _ in range(n)],
    "mixed": lambda n: [["a", 1, None, 2.5, ()][k % 5] for k in range(n)],
    "words": lambda n: [f"w{k % 3}" for k in range(n)],
    "blank": lambda n: [""] * n,
    "none": lambda n: [None] * n,
    "complex": lambda n: np.full(n, 1j),
    "truth": lambda n: np.arange(n) % 2 == 0,
    "dates": lambda n: pd.date_range("2020-01-01", periods=n).to_numpy(),
    "durations": lambda n: pd.timedelta_range("1h", periods=n).to_numpy(),
    "nullable": lambda n: pd.array([None, *range(1, n)], dtype="Int64"),
    "strings": lambda n: pd.array([None, *["a"] * (n - 1)], dtype="string"),
    "categories of numbers": lambda n: pd.Categorical(np.arange(n) % 4),
    "empty categories": lambda n: pd.Categorical([None] * n, categories=["x", "y"]),
    "huge": lambda n: np.full(n, np.finfo(float).max),
    "infinite": lambda n: np.full(n, -np.inf),
    "integers": np.arange,
}  # fmt: skip
ODD_PLACES = {
    "objects": lambda n: np.full((n, 3), "a", dtype=object),
    "no columns": lambda n: np.zeros((n, 0)),
    "many columns": lambda n: np.zeros((n, 40)),
    "one column": lambda n: np.zeros((n, 1)),
    "three axes": lambda n: np.zeros((n, 3, 2)),
    "frame": lambda n: pd.DataFrame({"x": np.arange(n), "y": ["a"] * n}, index=[f"r{k}" for k in range(n)]),
    "sparse": lambda n: sparse.csr_matrix(np.eye(n, 3)),
    "sparse wide": lambda n: sparse.csr_matrix((n, 10**6)),
    "complex": lambda n: np.full((n, 3), 1j),
    "truth": lambda n: np.ones((n, 3), dtype=bool),
    "integers": lambda n: np.arange(3 * n).reshape(n, 3) ** 2,
    "all NaN": lambda n: np.full((n, 3), np.nan),
    "huge": lambda n: np.random.default_rng(0).normal(size=(n, 3)) * 1e200,
    "same": lambda n: np.ones((n, 2)),
    "half precision": lambda n: np.arange(2 * n, dtype=np.float16).reshape(n, 2) ** 2,
}
ODD_MATRICES = {
    "none": lambda n: None,
    "objects": lambda n: np.full((n, 2), "a", dtype=object),
    "truth": lambda n: np.ones((n, 2), dtype=bool),
    "all NaN": lambda n: np.full((n, 2), np.nan),
    "csc": lambda n: sparse.csc_matrix(np.eye(n, 2)),
    "coo": lambda n: sparse.coo_matrix(np.eye(n, 2)).tocsr(),
    "integers": lambda n: np.arange(2 * n, dtype=np.uint8).reshape(n, 2),
    "complex": lambda n: np.full((n, 2), 1j),
    "empty sparse": lambda n: sparse.csr_matrix((n, 2)),
}
ODD_MOTIONS = {
    "a": "x",
    "b": [[1, 2], [3]],
    "c": {"rotation": np.zeros((2, 5))},
    "d": np.full((3, 3), np.inf),
    "e": None,
}
ODD_META = [
    None, "text", 3, [], {}, {"time_unit": 5}, {"space_unit": ["um"]}, {"motions": 4}, {"motions": ODD_MOTIONS},
    {"time_unit": "h", "space_unit": "um", "expression": "counts", "panel": 7},
]  # fmt: skip


@st.composite
def odd(draw: st.DrawFn) -> AnnData:
    """Anything that AnnData lets in."""
    n = draw(st.integers(1, 9))
    slots = draw(st.dictionaries(st.sampled_from(["time", "embryo", "cell", "parent", "cell_type", "slice"]),
                                 st.sampled_from(sorted(ODD_COLUMNS))))  # fmt: skip
    obs = pd.DataFrame({k: pd.Series(ODD_COLUMNS[kind](n)) for k, kind in slots.items()}, index=range(n))
    obs.index = [f"r{k}" for k in range(n)]
    adata = AnnData(ODD_MATRICES[draw(st.sampled_from(sorted(ODD_MATRICES)))](n), obs=obs)
    for slot in draw(st.sets(st.sampled_from(["spatial", "spatial_aligned", "X_embed", "X_panel"]))):
        adata.obsm[slot] = ODD_PLACES[draw(st.sampled_from(sorted(ODD_PLACES)))](n)
    if adata.n_vars and draw(st.booleans()):
        layer = ODD_MATRICES[draw(st.sampled_from(sorted(set(ODD_MATRICES) - {"none"})))](n)
        adata.layers["counts"] = layer
    meta = draw(st.sampled_from(ODD_META))
    if meta is not None:
        adata.uns["embryo"] = meta
    return adata
