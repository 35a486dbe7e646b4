"""What every pretrained encoder keeps, whoever wrote its file."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from anndata import AnnData

from embryo import encoders
from embryo.core.edit import Edit, Operation
from embryo.core.errors import ConfigError, EmbryoError, SchemaError, StaleError, StoreError
from embryo.encoders.options import Options
from embryo.encoders.pretrained import Pretrained

EXACT = Options(dtype="float32")
OUTSIDE = ("teddy", "scprint2")  # in a process of their own: tests/encoders/bridge/test_link.py
NAMES = [name for name in encoders.pretrained_names() if name not in OUTSIDE]
CLOSE = {"rtol": 0, "atol": 2e-5}


@pytest.fixture(params=NAMES)
def encoder(request: pytest.FixtureRequest, tiny: Callable[..., Pretrained]) -> Pretrained:
    return tiny(request.param)


@pytest.fixture
def adata(encoder: Pretrained, human_cells: Callable[..., AnnData]) -> AnnData:
    return human_cells(encoder.ids)


def close(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(a, b, **CLOSE)


def test_an_embedding_has_its_shape_and_tells_cells_apart(encoder, adata):
    z = encoder.encode(adata)
    assert z.shape == (adata.n_obs, encoder.dims)
    assert np.isfinite(z).all()
    assert np.ptp(z, axis=0).max() > 1e-3


def test_written_and_read_again_is_the_same_model(encoder, adata, tiny_folder):
    again = encoders.open_dir(encoder.name, tiny_folder(encoder.name), EXACT)
    np.testing.assert_array_equal(again.encode(adata), encoder.encode(adata))
    other = encoders.open_dir(encoder.name, tiny_folder(encoder.name, seed=1), EXACT)
    assert np.abs(other.encode(adata) - encoder.encode(adata)).max() > 1e-3


def test_neither_batch_nor_padding_nor_the_order_of_cells_matters(encoder, adata, tiny):
    z = encoder.encode(adata)
    alone = tiny(encoder.name, Options(dtype="float32", batch_tokens=1))
    close(alone.encode(adata), z)
    turned = np.random.default_rng(1).permutation(adata.n_obs)
    close(encoder.encode(adata[turned].copy()), z[turned])


def test_the_order_of_genes_does_not_matter(encoder, adata):
    turned = adata[:, np.random.default_rng(2).permutation(adata.n_vars)].copy()
    close(encoder.encode(turned), encoder.encode(adata))


@pytest.mark.parametrize("name", ["geneformer", "maxtoki", "c2s"])  # those that read ranks and no levels
def test_three_times_the_depth_is_the_same_rank(name, tiny, human_cells):
    encoder = tiny(name)
    adata = human_cells(encoder.ids)
    deeper = adata.copy()
    deeper.layers["counts"] = adata.layers["counts"] * 3
    close(encoder.encode(deeper), encoder.encode(adata))


def test_genes_have_embeddings_where_they_are_found(encoder, adata):
    genes = list(adata.var_names[[0, 3, 29]])
    counts = adata.layers["counts"][:, [0, 3, 29]].toarray()
    seen = np.zeros((adata.n_obs, 3), dtype=bool)
    for rows, values, found in encoder.gene_embeddings(adata, genes):
        assert values.shape[:2] == found.shape == (len(rows), 3)
        assert not values[~found].any()
        assert values[found].abs().sum(dim=-1).min() > 0
        seen[rows] = found.numpy()
    np.testing.assert_array_equal(seen, counts > 0)
    gone = [found[:, 0].any() for _, _, found in encoder.gene_embeddings(adata, genes, [Edit(genes[0])])]
    assert not any(gone)


# ---------------------------------------------------------------- edits


def test_an_edit_of_an_absent_gene_is_the_identity(encoder, adata):
    gene_map = encoder.map_genes(adata)
    ((_, cells),) = encoder.profiles(adata, gene_map)
    absent = encoder.edit(cells, [Edit(adata.var_names[-1])], gene_map)
    before, after = (encoder.encode_tokens(encoder.tokenize(c)) for c in (cells, absent))
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("operation", [Operation.KNOCKOUT, Operation.OVEREXPRESS])
def test_an_edit_moves_the_cells_that_it_touches_and_no_other(encoder, adata, operation):
    gene_map = encoder.map_genes(adata)
    ((_, cells),) = encoder.profiles(adata, gene_map)
    gene, carriers = str(adata.var_names[0]), np.arange(len(cells))[None] % 2 == 0
    edited = encoder.edit(cells, [Edit(gene, operation, 3.0)], gene_map, carriers)
    moved = encoder.encode_tokens(encoder.tokenize(edited)) - encoder.encode_tokens(encoder.tokenize(cells))
    assert np.abs(moved[carriers[0]]).max() > 1e-4
    close(moved[~carriers[0]], 0.0)


def test_edited_cells_are_embedded_in_one_call(encoder, adata):
    adata.obs["cell_type"] = np.where(np.arange(adata.n_obs) < 4, "gut", "skin")
    gene, z = str(adata.var_names[0]), encoder.encode(adata)
    moved = encoder.encode(adata, [Edit(gene, cell_type="gut")]) - z
    assert np.abs(moved[:4]).max() > 1e-4
    close(moved[4:], 0.0)
    np.testing.assert_array_equal(encoder.encode(adata, []), z)


def test_a_response_is_the_step_that_a_knock_out_makes(encoder, adata):
    fitted = encoder.fit(adata)
    gene = str(adata.var_names[0])
    response = fitted.response([gene, str(adata.var_names[5])])
    assert response.shape == (2, encoder.dims)
    assert np.abs(response[0]).max() > 0
    gene_map = encoder.map_genes(adata)
    ((_, cells),) = encoder.profiles(adata, gene_map)
    level = np.log1p(1e4 * adata.layers["counts"][:, 0].toarray().ravel() / cells.total)
    knocked = encoder.edit(cells, [Edit(gene)], gene_map)
    moved = encoder.encode_tokens(encoder.tokenize(knocked)) - encoder.encode_tokens(encoder.tokenize(cells))
    slope = np.linalg.lstsq(-level[:, None], moved, rcond=None)[0][0]  # all cells are reference cells here
    np.testing.assert_allclose(response[0], slope, rtol=1e-3, atol=1e-5)


# ---------------------------------------------------------------- what is kept


def test_what_a_run_keeps_decodes_and_responds_without_weights(encoder, adata, tmp_path):
    fitted = encoder.fit(adata)
    z, genes = fitted.encode(adata), list(adata.var_names[:2])
    response = fitted.response(genes)
    kept = encoders.load(encoders.save(fitted, tmp_path / "encoder.safetensors"))
    np.testing.assert_array_equal(kept.response(genes), response)
    np.testing.assert_allclose(kept.decode(z), fitted.decode(z), rtol=1e-6)
    with pytest.raises(StaleError, match="without its weights"):
        kept.encode(adata)
    with pytest.raises(StaleError, match=f"no response of {encoder.name} to {adata.var_names[7]}"):
        kept.response([str(adata.var_names[7])])


def test_further_cells_come_into_the_embedding_of_a_run(encoder, human_cells, tiny_folder, tmp_path):
    train, later = human_cells(encoder.ids, n=40), human_cells(encoder.ids, n=12, seed=5)
    options, folder = Options(dtype="float32", dims=3), tiny_folder(encoder.name)
    fitted = encoders.open_dir(encoder.name, folder, options).fit(train)
    path = encoders.save(fitted, tmp_path / "encoder.safetensors")
    again = encoders.reopen(path, folder, options)
    np.testing.assert_array_equal(again.encode(later), fitted.encode(later))
    with pytest.raises(StoreError, match="another dims"):
        encoders.reopen(path, folder, Options(dtype="float32", dims=2))
    with pytest.raises(StoreError, match="another sha256"):
        encoders.reopen(path, tiny_folder(encoder.name, seed=1), options)


def test_a_fit_leaves_the_encoder_as_it_was(encoder, adata):
    z = encoder.encode(adata)
    fitted = encoder.fit(adata)
    assert fitted is not encoder
    assert encoder.decoder is None
    np.testing.assert_array_equal(fitted.encode(adata), z)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "c2s"])  # which spells any symbol
def test_what_one_file_is_read_with_is_not_taken_for_another(name, tiny, human_cells):
    """Acceptance hangs on the counts: the same genes may be enough in one file and not in the next."""
    encoder = tiny(name)
    adata = human_cells(encoder.ids)
    mixed = adata[:, np.r_[np.arange(8), np.arange(8, 30)]].copy()
    mixed.var_names = [*adata.var_names[:8], *(f"LOC{k}" for k in range(22))]
    rich, poor = mixed.copy(), mixed.copy()
    counts = mixed.layers["counts"].toarray()
    for held, factor in ((rich, 100.0), (poor, 0.0)):
        scaled = counts.copy()
        scaled[:, :8] = scaled[:, :8] * factor + 1.0
        scaled[:, 8:] += 1.0
        held.layers["counts"] = scaled
    poor.layers["counts"][:, 8:] *= 100
    encoder.encode(rich)
    with pytest.raises(SchemaError):
        encoder.encode(poor)


def test_before_the_fit_there_is_no_way_back(encoder, adata):
    with pytest.raises(StaleError, match="before fit"):
        encoder.decode(encoder.encode(adata))


def test_random_weights_are_called_random(encoder, adata):
    encoder.encode(adata)
    about = encoder.provenance()
    assert about["weights"] == "random"
    assert about["weights_seed"] == 0
    assert about["sha256"]
    assert all(len(value) == 64 for value in about["sha256"].values())
    assert (about["encoder"], about["dtype"]) == (encoder.name, "float32")
    assert about["coverage"]["n_mapped_data"] >= 29


# ---------------------------------------------------------------- what is refused


def test_log_normalised_values_are_refused(encoder, adata):
    logged = adata.copy()
    logged.layers["counts"] = adata.layers["counts"].log1p()
    with pytest.raises(SchemaError, match="values that are no counts"):
        encoder.encode(logged)
    logged.uns["embryo"]["expression"] = "log1p"
    with pytest.raises(SchemaError, match="expected raw counts"):
        encoder.encode(logged)


def test_an_empty_cell_is_named(encoder, adata):
    counts = adata.layers["counts"].toarray()
    counts[4] = 0
    adata.layers["counts"] = counts
    with pytest.raises(SchemaError, match=r"1 of 12 cells \(rows 4: c4\) without a count"):
        encoder.encode(adata)


def test_data_that_the_model_hardly_reads_are_refused(encoder, adata):
    other = adata.copy()
    unheard = [name.replace("GENE", "LOC").replace("ENSG0", "ENSG9") for name in adata.var_names[3:]]
    other.var_names = [*adata.var_names[:3], *unheard]
    with pytest.raises(SchemaError, match=r"3 of (the )?30 genes"):
        encoder.encode(other)


def test_an_unknown_pooling_or_layer_is_refused(encoder, tiny_folder):
    folder = tiny_folder(encoder.name)
    with pytest.raises(ConfigError, match=f"one of {encoder.poolings[0]}"):
        encoders.open_dir(encoder.name, folder, Options(pooling="max of mins"))
    with pytest.raises(ConfigError, match="layer 99 of a network with"):
        encoders.open_dir(encoder.name, folder, Options(layer=99))


@pytest.mark.parametrize("name", NAMES)
def test_a_variant_that_a_model_has_not_is_refused(name, tiny_folder):
    with pytest.raises(EmbryoError):
        encoders.open_dir(name, tiny_folder(name), Options(variant="nonsense"))


class Payload:
    """What a malicious checkpoint holds."""

    def __reduce__(self):
        return (print, ("this must never be printed",))


def weights_of(folder: Path) -> list[Path]:
    kinds = {".safetensors", ".bin", ".pt", ".ckpt"}
    return [path for path in sorted(folder.rglob("*")) if path.suffix in kinds]


@pytest.mark.parametrize("how", ["cut", "empty", "payload", "gone"])
def test_damaged_and_malicious_weights_are_refused(encoder, tmp_path, capfd, tiny_folder, how):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder(encoder.name), folder)
    (weights,) = weights_of(folder)
    if how == "gone":
        weights.unlink()
    elif how == "payload":
        torch.save({"model": Payload()}, weights)
    else:
        weights.write_bytes(weights.read_bytes()[: 0 if how == "empty" else -64])
    with pytest.raises(StoreError):
        encoders.open_dir(encoder.name, folder, EXACT)
    assert "never be printed" not in capfd.readouterr().out


def test_every_other_file_of_the_folder_is_needed_or_checked(encoder, tmp_path, tiny_folder):
    """A folder with any one file garbled is refused for a person, or embeds as before where the file is optional."""
    kept = {path.name for path in weights_of(tiny_folder(encoder.name))} | {"embryo-weights.json"}
    for file in sorted(path.name for path in tiny_folder(encoder.name).iterdir() if path.name not in kept):
        folder = tmp_path / file
        shutil.copytree(tiny_folder(encoder.name), folder)
        (folder / file).write_bytes(b"\xff\x00 nothing")
        with pytest.raises(EmbryoError):
            encoders.open_dir(encoder.name, folder, EXACT)
