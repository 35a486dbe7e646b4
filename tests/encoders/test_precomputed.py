import hashlib
import json

import anndata as ad
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from safetensors.numpy import load_file, save_file
from scipy import sparse

from embryo import perturb
from embryo.core import schema
from embryo.core.edit import Edit
from embryo.core.encoder import Encoder
from embryo.core.errors import EditError, SchemaError, StaleError, StoreError
from embryo.encoders import precomputed
from embryo.encoders.decoding.decoder import fit_decoder
from embryo.encoders.inputs import normalise
from embryo.encoders.precomputed import Precomputed

ENDINGS = ("npz", "safetensors")


@pytest.fixture
def data(cells):
    return cells(30, 12)


@pytest.fixture
def z():
    return np.random.default_rng(3).normal(size=(30, 4)).astype(np.float32)


def written(path, adata, z, **about):
    return precomputed.write(path, list(map(str, adata.obs_names)), z, adata, about)


@settings(max_examples=25)
@given(
    z=npst.arrays(
        st.sampled_from([np.float32, np.float64]),
        st.tuples(st.just(30), st.integers(1, 5)),
        elements=st.floats(-1e6, 1e6, width=32),
    ),
    ending=st.sampled_from(ENDINGS),
    about=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=3).filter(
        lambda d: "__float__" not in d
    ),
    data_=st.data(),
)
def test_what_is_written_is_found_again_in_any_order(tmp_path, cells, z, ending, about, data_):
    adata = cells(30, 12)
    order = data_.draw(st.permutations(range(30)))
    ids = [str(adata.obs_names[i]) for i in order]
    precomputed.write(tmp_path / f"z.{ending}", ids, z, adata, about)
    found = precomputed.read(tmp_path / f"z.{ending}")
    assert found.about == about
    assert found.z.dtype == z.dtype
    asked = data_.draw(st.lists(st.sampled_from(range(30)), min_size=1, unique=True))
    genes = data_.draw(st.permutations(range(12)))
    np.testing.assert_array_equal(found.encode(adata[asked][:, genes].copy()), z[[order.index(i) for i in asked]])


@settings(max_examples=25)
@given(
    names=st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=5, unique=True),
    ending=st.sampled_from(ENDINGS),
)
def test_names_of_cells_may_be_any_text(tmp_path, names, ending):
    names = [name.rstrip("\0") or "x" for name in names]
    names = list(dict.fromkeys(name.encode(errors="ignore").decode() or "x" for name in names))
    adata = ad.AnnData(np.eye(len(names)), uns={"embryo": {"expression": "relative"}})
    adata.obs_names = names
    z = np.arange(len(names), dtype=float)[:, None]
    written(tmp_path / f"z.{ending}", adata, z)
    np.testing.assert_array_equal(precomputed.read(tmp_path / f"z.{ending}").encode(adata[::-1].copy()), z[::-1])


def test_a_checksum_is_that_of_names_and_values_that_are_not_zero(cells):
    adata = cells(3, 5)

    def name(gene):
        return int.from_bytes(hashlib.blake2b(gene.encode(), digest_size=8).digest(), "little")

    for row, found in zip(adata.layers["counts"].toarray(), precomputed.checksums(adata), strict=True):
        pairs = sorted((name(g), v) for g, v in zip(adata.var_names, row, strict=True) if v)
        text = np.array([p[0] for p in pairs], "<u8").tobytes() + np.array([p[1] for p in pairs], "<f8").tobytes()
        assert found.tobytes() == hashlib.sha256(text).digest()


def test_neither_form_nor_type_nor_silent_genes_change_a_checksum(cells):
    adata = cells(8, 6)
    expected = precomputed.checksums(adata)
    for form in (np.asarray, sparse.csc_matrix, sparse.csr_array, lambda m: sparse.csr_matrix(m, dtype=np.int32)):
        other = adata.copy()
        other.layers["counts"] = form(adata.layers["counts"].toarray())
        np.testing.assert_array_equal(precomputed.checksums(other), expected)
    wider = ad.concat([adata, cells(8, 7)[:, 6:]], axis=1)
    wider.layers["counts"][:, 6] = 0
    wider.uns = adata.uns
    np.testing.assert_array_equal(precomputed.checksums(wider), expected)


@pytest.mark.parametrize("ending", ENDINGS)
def test_changed_counts_are_stale_and_say_which(tmp_path, data, z, ending):
    found = precomputed.read(written(tmp_path / f"z.{ending}", data, z))
    changed = data.copy()
    changed.layers["counts"][4, 2] += 1
    with pytest.raises(StaleError, match=r"in 1 of 30 cells \(rows 4: c4\)"):
        found.encode(changed)
    with pytest.raises(StaleError, match="other counts than those embedded"):
        found.encode(perturb.genes(data, [Edit("gene000")]))
    renamed = data.copy()
    renamed.obs_names = ["new" if i == 2 else name for i, name in enumerate(data.obs_names)]
    with pytest.raises(SchemaError, match=r"1 of 30 cells \(rows 2: new\) without a precomputed embedding"):
        found.encode(renamed)


def test_it_cannot_follow_an_edit_and_says_so(data, z):
    found = Precomputed.of(list(data.obs_names), z, data)
    assert isinstance(found, Encoder)
    with pytest.raises(EditError, match="an edit of Tal1, Gata1 on a precomputed embedding"):
        found.response(["Tal1", "Gata1"])


def test_a_slot_is_an_embedding_of_the_cells_as_they_are(data, z):
    data.obsm["X_mine"] = z
    found = Precomputed.from_slot(data, "X_mine")
    np.testing.assert_array_equal(found.encode(data[5:2:-1].copy()), z[5:2:-1])
    assert found.provenance() == {"encoder": "precomputed", "dims": 4, "slot": "X_mine"}
    with pytest.raises(SchemaError, match=r"no obsm\['X_mne'\] .*did you mean 'X_mine'"):
        Precomputed.from_slot(data, "X_mne")


def test_fit_adds_the_decoder_of_these_cells(data, z):
    data.obs[schema.EMBRYO] = [f"e{i % 3}" for i in range(30)]
    found = Precomputed.of(list(data.obs_names), z, data)
    with pytest.raises(StaleError, match="before fit"):
        found.decode(z)
    fitted = found.fit(data[:20].copy())
    levels = normalise.log1p_normalised(data[:20].copy())
    expected = fit_decoder(z[:20], levels, data.obs[schema.EMBRYO][:20].to_numpy(), genes=list(data.var_names))
    np.testing.assert_array_equal(fitted.decode(z), expected.predict(z))
    assert fitted.decoder.held_out == expected.held_out
    again = Precomputed.restore(fitted.tensors(), json.loads(json.dumps(fitted.record())))
    np.testing.assert_array_equal(again.encode(data), z)
    np.testing.assert_array_equal(again.decode(z), fitted.decode(z))
    assert again.record() == fitted.record()


def test_bad_requests_are_told_at_once(data, z, tmp_path):
    ids = list(map(str, data.obs_names))
    with pytest.raises(SchemaError) as error:
        Precomputed.of(["x", *ids[1:]], z[:-1], data)
    assert "1 ids without a cell: x" in str(error.value)
    assert "30 ids for 29 rows" in str(error.value)
    with pytest.raises(SchemaError, match="ids given twice: c0"):
        Precomputed.of([ids[0], *ids[:-1]], z, data)
    with pytest.raises(SchemaError, match="not finite"):
        Precomputed.of(ids, np.where(z > 1, np.nan, z), data)
    with pytest.raises(StoreError, match=r"ending in '.csv'"):
        written(tmp_path / "z.csv", data, z)
    assert not list(tmp_path.iterdir())


def spoil(path, how):
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-60])
    elif how == "pickled":
        with path.open("wb") as file:
            np.savez(file, cell_ids=np.array([{"a": 1}], dtype=object), z=1, sha256=1, record=1)
    elif how == "empty":
        path.write_bytes(b"")
    elif path.suffix == ".npz":
        parts = dict(np.load(path, allow_pickle=False))
        header = json.loads(str(parts["record"]))
        spoil_parts(parts, header, how)
        np.savez(path, **parts | {"record": np.array(json.dumps(header))})
    else:
        parts, header = load_file(path), {"format": precomputed.FORMAT, "version": "1", "provenance": "{}"}
        spoil_parts(parts, header, how)
        save_file(parts, path, metadata=header)


def spoil_parts(parts, header, how):
    if how == "foreign":
        header["format"] = "other"
    elif how == "newer":
        header["version"] = "9"
    elif how == "no part":
        del parts["sha256"]
    elif how == "short":
        parts["z"] = parts["z"][:-1].copy()
    elif how == "NaN":
        parts["z"][0, 0] = np.nan
    elif how == "provenance":
        header["provenance"] = "{"


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("truncated", "cannot be read"),
        ("pickled", "cannot be read"),
        ("empty", "cannot be read"),
        ("no part", "cannot be read"),
        ("foreign", "format 'other'"),
        ("newer", "version 9"),
        ("short", "30 ids, 29 rows of z"),
        ("NaN", "not finite"),
        ("provenance", "do not fit together"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, data, z, ending, how, says):
    path = written(tmp_path / f"z.{ending}", data, z)
    spoil(path, how)
    with pytest.raises(StoreError) as error:
        precomputed.read(path)
    assert says in str(error.value)
    with pytest.raises(StoreError, match="no such file"):
        precomputed.read(tmp_path / f"absent.{ending}")
