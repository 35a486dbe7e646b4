import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from scipy import sparse

from embryo import embed, encoders
from embryo.core import store
from embryo.core.errors import ConfigError, SchemaError, StoreError
from embryo.embed import files
from embryo.embed.source import opened
from embryo.encoders.options import Options


def cells(n: int = 30, genes: int = 12, seed: int = 0) -> ad.AnnData:
    dense = np.random.default_rng(seed).poisson(2.0, (n, genes)).astype(float)
    dense[:, 0] += 1  # no empty cell
    counts = sparse.csr_matrix(dense)
    adata = ad.AnnData(
        counts,
        pd.DataFrame({"cell_type": ["a", "b"] * (n // 2)}, index=[f"c{i}" for i in range(n)]),
        pd.DataFrame(index=[f"g{j}" for j in range(genes)]),
        uns={"embryo": {"expression": "counts", "organism": "Homo sapiens"}, "kept": "as it was"},
        layers={"counts": counts.copy()},
    )
    adata.obsm["X_other"] = np.arange(2.0 * n).reshape(n, 2)
    return adata


def written(adata: ad.AnnData, path, zarr_format: int = 2):
    if path.suffix == ".zarr":
        with ad.settings.override(zarr_write_format=zarr_format), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of the writer, about its own future
            adata.write_zarr(path)
    else:
        adata.write_h5ad(path)
    return path


def read(path) -> ad.AnnData:
    return ad.read_zarr(path) if path.suffix == ".zarr" else ad.read_h5ad(path)


@pytest.mark.parametrize(("suffix", "zarr_format"), [(".h5ad", 0), (".zarr", 2), (".zarr", 3)])
def test_a_file_embedded_in_blocks_is_the_same_as_in_memory(tmp_path, monkeypatch, suffix, zarr_format):
    monkeypatch.setattr(files, "BLOCK", 7)
    adata = cells()
    path, out = written(adata, tmp_path / f"in{suffix}", zarr_format), tmp_path / f"out{suffix}"
    before = {p: p.stat().st_mtime_ns for p in [path, *path.rglob("*")]}
    seen = []
    encoder = encoders.build("pca", dims=3).fit(adata)
    record = embed.file(path, encoder, out, tick=lambda *what: seen.append(what))
    got = read(out)
    np.testing.assert_allclose(got.obsm["X_embed"], encoder.encode(adata), rtol=1e-5, atol=1e-6)
    assert got.obsm["X_embed"].dtype == np.float32
    np.testing.assert_array_equal(got.obsm["X_other"], adata.obsm["X_other"])
    assert (got.layers["counts"] != adata.layers["counts"]).nnz == 0
    assert got.uns["kept"] == "as it was"
    assert got.uns["embryo"]["embeddings"]["X_embed"]["encoder"] == record["encoder"] == "pca"
    assert seen[-1] == ("embed", 30, 30)
    assert len(seen) == 5
    assert {p: p.stat().st_mtime_ns for p in [path, *path.rglob("*")]} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"in{suffix}", f"out{suffix}"]


def test_an_interrupted_embedding_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BLOCK", 7)
    adata = cells()
    path, out = written(adata, tmp_path / "in.h5ad"), tmp_path / "out.h5ad"
    encoder = encoders.build("hvg", dims=3).fit(adata)
    encode, embedded = type(encoder).encode, []

    def interrupted(self, part):
        if len(embedded) == 3:
            raise KeyboardInterrupt
        embedded.append(part.n_obs)
        return encode(self, part)

    monkeypatch.setattr(type(encoder), "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed.file(path, encoder, out)
    assert not out.exists()
    monkeypatch.setattr(
        type(encoder), "encode", lambda self, part: (embedded.append(part.n_obs), encode(self, part))[1]
    )
    embed.file(path, encoder, out)
    assert embedded == [7, 7, 7, 7, 2]
    np.testing.assert_allclose(read(out).obsm["X_embed"], encode(encoder, adata), rtol=1e-5, atol=1e-6)


def stopped_after(monkeypatch, encoder, path, out, blocks):
    """Embed until so many blocks are done, and stop as a person would."""
    encode, done = type(encoder).encode, []

    def interrupted(self, part):
        if len(done) == blocks:
            raise KeyboardInterrupt
        done.append(part.n_obs)
        return encode(self, part)

    with monkeypatch.context() as patched:
        patched.setattr(type(encoder), "encode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            embed.file(path, encoder, out)


def test_another_fit_of_the_same_encoder_starts_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BLOCK", 7)
    adata = cells()
    path, out = written(adata, tmp_path / "in.h5ad"), tmp_path / "out.h5ad"
    one, other = (encoders.build("pca", dims=3).fit(adata[rows].copy()) for rows in (slice(0, 15), slice(15, 30)))
    stopped_after(monkeypatch, one, path, out, 2)
    embed.file(path, other, out)
    np.testing.assert_allclose(read(out).obsm["X_embed"], other.encode(adata), rtol=1e-5, atol=1e-6)
    stopped_after(monkeypatch, one, path, out, 2)
    embed.file(path, encoders.build("pca", dims=5).fit(adata), out)
    assert read(out).obsm["X_embed"].shape == (30, 5)


@pytest.mark.parametrize(
    ("before", "after"), [({"variant": "masked"}, {"variant": "published"}), ({}, {"pooling": "mean"})]
)
def test_other_options_of_the_same_weights_start_anew(tmp_path, monkeypatch, before, after):
    monkeypatch.setattr(files, "BLOCK", 7)
    adata = cells()
    adata.var_names = [f"GENE{k}" for k in range(adata.n_vars)]
    weights = encoders.model("cellfm").write_tiny(tmp_path / "weights", list(adata.var_names))
    path, out = written(adata, tmp_path / "in.h5ad"), tmp_path / "out.h5ad"
    one, other = (encoders.open_dir("cellfm", weights, Options(dtype="float32", **o)) for o in (before, after))
    stopped_after(monkeypatch, one, path, out, 2)
    embed.file(path, other, out)
    np.testing.assert_allclose(read(out).obsm["X_embed"], other.encode(adata), atol=1e-5)


def test_an_input_that_shrank_is_embedded_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BLOCK", 7)
    path, out = written(cells(), tmp_path / "in.h5ad"), tmp_path / "out.h5ad"
    encoder = encoders.build("pca", dims=3).fit(cells())
    stopped_after(monkeypatch, encoder, path, out, 4)
    few = cells()[:10].copy()
    written(few, path)
    embed.file(path, encoder, out)
    np.testing.assert_allclose(read(out).obsm["X_embed"], encoder.encode(few), rtol=1e-5, atol=1e-6)


def test_two_jobs_do_not_write_into_one_file(tmp_path):
    path, out = written(cells(), tmp_path / "in.h5ad"), tmp_path / "out.h5ad"
    with FileLock(tmp_path / ".out.h5ad.lock"), pytest.raises(ConfigError, match="another process that embeds into"):
        embed.file(path, encoders.build("pca", dims=3), out)
    assert not out.exists()


def test_a_reduced_pretrained_encoder_is_fitted_on_the_file(tmp_path):
    adata = cells(60)
    adata.var_names = [f"GENE{k}" for k in range(adata.n_vars)]
    weights = encoders.model("scgpt").write_tiny(tmp_path / "weights", list(adata.var_names))
    path, out = written(adata, tmp_path / "in.h5ad"), tmp_path / "out.h5ad"
    record = embed.file(path, embed.encoder("scgpt", weights, Options(dims=4)), out)
    assert (read(out).obsm["X_embed"].shape, record["reduced_from"]) == ((60, 4), 16)


@pytest.mark.parametrize("kind", ["csc", "dense", "integers"])
def test_matrices_of_every_kind_are_read(tmp_path, kind):
    adata = cells()
    expected = encoders.build("pca", dims=3).fit(adata)
    counts = adata.layers["counts"]
    held = {"csc": counts.tocsc(), "dense": counts.toarray(), "integers": counts.astype(np.int32)}[kind]
    adata.layers["counts"] = held
    path = written(adata, tmp_path / "in.h5ad")
    embed.file(path, expected, tmp_path / "out.h5ad")
    np.testing.assert_allclose(read(tmp_path / "out.h5ad").obsm["X_embed"], expected.encode(cells()), atol=1e-5)


def test_blocks_of_another_encoder_are_not_taken(tmp_path, monkeypatch):
    adata = cells()
    path, out = written(adata, tmp_path / "in.h5ad"), tmp_path / "out.h5ad"
    work = tmp_path / ".out.h5ad.embedding"
    work.mkdir()
    store.write_tensors(work / f"{0:012d}.safetensors", {}, {"signature": "another", "record": "{}"})
    embed.file(path, encoders.build("pca", dims=3, seed=5), out)
    assert read(out).obsm["X_embed"].shape == (30, 3)
    assert not work.exists()


def test_counts_are_found_where_they_are(tmp_path):
    adata = cells()
    counts = adata.layers["counts"].toarray()
    in_x, in_raw = adata.copy(), adata.copy()
    del in_x.layers["counts"], in_x.uns["embryo"]
    raw = ad.AnnData(adata.layers["counts"], var=adata.var)
    in_raw.X = adata.layers["counts"].log1p()
    in_raw.raw = raw
    del in_raw.layers["counts"]
    in_raw = in_raw[:, :4].copy()
    for name, held in {"x": in_x, "raw": in_raw}.items():
        with opened(written(held, tmp_path / f"{name}.h5ad")) as source:
            assert source.meta["expression"] == "counts"
            np.testing.assert_array_equal(source.take(slice(3, 9)).layers["counts"].toarray(), counts[3:9])
            assert source.take(np.array([1, 4])).obs_names.tolist() == ["c1", "c4"]


def test_what_values_are_is_told_from_the_file_or_from_the_values(tmp_path):
    adata = cells()
    adata.X = adata.layers["counts"].log1p()
    del adata.layers["counts"], adata.uns["embryo"]
    adata.obs["organism"] = "Mus musculus"
    path = written(adata, tmp_path / "log.h5ad")
    with opened(path) as source:
        assert source.meta == {"expression": "log1p", "organism": "Mus musculus"}
    with opened(path, species="Homo sapiens") as source:
        assert source.meta["organism"] == "Homo sapiens"


@pytest.mark.parametrize(
    ("name", "out", "found"),
    [
        ("in.h5ad", "out.zarr", r"a name ending in \.h5ad"),
        ("in.csv", "out.csv", "convert it first"),
        ("in.h5ad", "in.h5ad", "the input as output"),
        ("gone.h5ad", "out.h5ad", "no such file"),
        ("text.h5ad", "out.h5ad", "cannot be opened"),
        ("empty.zarr", "out.zarr", r"no obs and no var|cannot be opened"),
    ],
)
def test_what_cannot_be_embedded_is_told_and_nothing_is_left(tmp_path, name, out, found):
    written(cells(), tmp_path / "in.h5ad")
    (tmp_path / "in.csv").write_text("a,b")
    (tmp_path / "text.h5ad").write_text("no hdf5")
    (tmp_path / "empty.zarr").mkdir()
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises((ConfigError, StoreError), match=found):
        embed.file(tmp_path / name, encoders.build("pca", dims=3), tmp_path / out)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_file_without_expression_is_told(tmp_path):
    path = written(ad.AnnData(obs=pd.DataFrame(index=["a"]), var=pd.DataFrame(index=["g"])), tmp_path / "in.h5ad")
    with pytest.raises(SchemaError, match="no expression matrix"):
        embed.file(path, encoders.build("pca", dims=3), tmp_path / "out.h5ad")


def test_a_zarr_that_may_only_be_read_is_copied_to_one_that_may_be_written(tmp_path):
    path = written(cells(), tmp_path / "in.zarr")
    inside = [path, *path.rglob("*")]
    for one in inside:
        one.chmod(0o555 if one.is_dir() else 0o444)
    embed.file(path, encoders.build("pca", dims=3), tmp_path / "out.zarr")
    out = tmp_path / "out.zarr"
    assert all(one.stat().st_mode & 0o200 for one in [out, *out.rglob("*")])
    for one in inside:
        one.chmod(0o755)
