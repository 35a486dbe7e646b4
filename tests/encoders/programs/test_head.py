import json

import anndata as ad
import numpy as np
import pytest
import torch
from scipy import sparse

from embryo.core import schema
from embryo.core.edit import GENE_OPERATIONS, Edit, Operation
from embryo.core.encoder import Encoder
from embryo.core.errors import ConfigError, DivergedError, EditError, SchemaError, StaleError
from embryo.encoders.genes.orthologs import Orthologs
from embryo.encoders.inputs import normalise
from embryo.encoders.programs import gene_states, gmt
from embryo.encoders.programs.fitted import Fitted
from embryo.encoders.programs.gmt import GeneSets
from embryo.encoders.programs.head import UNIT, Programs
from embryo.encoders.programs.training import Training

SETS = GeneSets(
    {"even": tuple(f"gene{j:03d}" for j in range(0, 24, 2)), "low": tuple(f"gene{j:03d}" for j in range(8))}
)
QUICK = Training(width=16, epochs=12, batch=32, fewest=2)


@pytest.fixture(scope="module")
def data(cells):
    adata = cells(160)
    adata.obs[schema.EMBRYO] = [f"e{i % 4}" for i in range(160)]
    return adata


@pytest.fixture(scope="module")
def train(data):
    return data[data.obs[schema.EMBRYO] != "e3"].copy()


@pytest.fixture(scope="module")
def fitted(train):
    return Programs(4, 0, SETS, training=QUICK).fit(train)


def test_it_is_an_encoder(fitted):
    assert isinstance(fitted, Encoder)
    assert fitted.genes == tuple(sorted({*SETS.genes["even"], *SETS.genes["low"]}))


def test_the_order_of_cells_and_genes_changes_neither_fit_nor_embedding(train, data, fitted):
    rng = np.random.default_rng(0)
    shuffled = train[rng.permutation(train.n_obs), rng.permutation(train.n_vars)].copy()
    again = Programs(4, 0, SETS, training=QUICK).fit(shuffled)
    for key, value in fitted.tensors().items():
        np.testing.assert_array_equal(again.tensors()[key], value)
    order = rng.permutation(data.n_obs)[:50]
    some = data[order, rng.permutation(data.n_vars)].copy()
    np.testing.assert_allclose(fitted.encode(some), fitted.encode(data)[order], atol=1e-5)
    np.testing.assert_allclose(fitted.scores(some), fitted.scores(data).iloc[order], atol=1e-4)


def test_another_seed_gives_another_fit(train, fitted):
    other = Programs(4, 1, SETS, training=QUICK).fit(train)
    assert not np.array_equal(other.encode(train), fitted.encode(train))


def test_other_embryos_are_reconstructed_better_than_by_the_train_mean(data, fitted):
    test = data[data.obs[schema.EMBRYO] == "e3"].copy()
    found = fitted.reconstruction(test)
    columns = [fitted.library.index(g) for g in fitted.genes]
    truth = normalise.log1p_normalised(test, fitted.library).toarray()[:, columns]
    np.testing.assert_allclose(found.rmse, np.sqrt(((fitted.decode(fitted.encode(test)) - truth) ** 2).mean()))
    seen = data[data.obs[schema.EMBRYO] != "e3"]
    mean = normalise.log1p_normalised(seen, fitted.library).toarray()[
        :, [fitted.library.index(g) for g in fitted.genes]
    ]
    np.testing.assert_allclose(found.floor, np.sqrt(((mean.mean(0) - truth) ** 2).mean()), rtol=1e-5)
    assert found.beats_floor
    assert str(found).startswith("programs: held-out RMSE")
    assert "of the train mean (1 fold by embryo)" in str(found)
    with pytest.raises(SchemaError, match="embryos of the fit: e0, e1, e2"):
        fitted.reconstruction(data)


def test_scores_are_standardised_and_rise_with_the_members(train, fitted):
    scores = fitted.scores(train)
    np.testing.assert_allclose(scores.mean(), 0, atol=1e-3)
    np.testing.assert_allclose(scores.std(ddof=0), 1, rtol=1e-3)
    assert scores.attrs["units"] == {"even": UNIT, "low": UNIT}
    levels = normalise.log1p_normalised(train).toarray()
    for program, genes in SETS.genes.items():
        mean = levels[:, [train.var_names.get_loc(g) for g in genes]].mean(1)
        assert np.corrcoef(mean, scores[program])[0, 1] >= 0


def test_a_program_edit_is_an_edit_of_every_member(train, fitted):
    edits = fitted.program_edits("low", Operation.KNOCKDOWN, 0.5)
    assert edits == [Edit(gene, Operation.KNOCKDOWN, 0.5) for gene in SETS.genes["low"]]
    shift = fitted.shift(train, edits)
    assert np.abs(shift.z).max() > 1e-3
    assert shift.scores.attrs["units"]["low"] == UNIT
    assert list(shift.scores.index) == list(train.obs_names)


def test_an_edit_moves_only_programs_of_its_gene(train, fitted):
    only_even = fitted.shift(train, [Edit("gene010")])
    assert (only_even.scores["low"] == 0).all()
    assert (only_even.scores["even"] != 0).any()
    outside = fitted.shift(train, [Edit("gene023")])
    assert not outside.z.any()
    assert not outside.scores.to_numpy().any()


@pytest.mark.parametrize("operation", sorted(GENE_OPERATIONS))
def test_levels_are_edited_as_counts_are(train, operation):
    """Against the counts of the gene changed by hand at an unchanged library size."""
    levels = normalise.log1p_normalised(train).toarray()
    found = gene_states.edited(levels, list(train.var_names), [Edit("gene004", operation, 0.3)])[:, 4]
    counts = train.layers["counts"].toarray()[:, 4] / train.layers["counts"].toarray().sum(1) * 1e4
    expected = {
        "knockout": np.zeros(len(counts)),
        "knockdown": np.log1p(0.3 * counts),
        "overexpress": np.log1p(counts) + 0.3,
        "clamp": np.full(len(counts), 0.3),
    }[operation.value]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert gene_states.edited(levels, ["x"] * 25, [Edit("gene004")]).tolist() == levels.tolist()


def test_response_is_the_mean_derivative_of_encode(cells):
    adata = cells(60, kind="relative", dense=True)
    fitted = Programs(3, 0, SETS, training=QUICK).fit(adata)
    moved = adata.copy()
    moved.X[:, 6] += 1e-2
    change = (fitted.encode(moved) - fitted.encode(adata)).mean(0) / 1e-2
    np.testing.assert_allclose(fitted.response(["gene006"])[0], change, rtol=0.05, atol=2e-3)
    assert not fitted.response(["gene024", "unheard"]).any()
    assert fitted.response([]).shape == (0, 3)


def test_a_stored_head_embeds_and_scores_the_same(data, fitted):
    again = Programs.restore(fitted.tensors(), json.loads(json.dumps(fitted.record())))
    np.testing.assert_array_equal(again.encode(data), fitted.encode(data))
    np.testing.assert_array_equal(again.scores(data), fitted.scores(data))
    np.testing.assert_array_equal(again.response(["gene002"]), fitted.response(["gene002"]))
    assert again.record() == fitted.record()
    assert again.program_edits("even") == fitted.program_edits("even")
    record = fitted.record()
    with pytest.raises(ValueError, match="genes other than those of the programs"):
        Programs.restore(fitted.tensors(), record | {"genes": record["genes"][:-1]})
    assert Fitted.restore(fitted.fitted.stored(), record).record() == fitted.fitted.record()
    with pytest.raises(ValueError, match="size mismatch"):
        Programs.restore(fitted.tensors(), record | {"sizes": record["sizes"] | {"dims": 5}})


def test_bad_requests(train, fitted):
    with pytest.raises(ConfigError, match="no gene programs"):
        Programs(4).fit(train)
    with pytest.raises(StaleError, match="before fit"):
        Programs(4, 0, SETS).encode(train)
    with pytest.raises(EditError, match=r"program 'evn' \(did you mean 'even'\?\)"):
        fitted.program_edits("evn")
    with pytest.raises(EditError) as error:
        fitted.shift(train, [Edit("gene10"), Edit("gene000", fraction=0.5), Edit("gene000", t_on_h=3.0)])
    assert len(error.value.problems) == 3
    with pytest.raises(SchemaError, match="translate the names first"):
        Programs(4, 0, GeneSets({"P": ("x", "y")})).fit(train)
    with pytest.raises(SchemaError, match="3 cells"):
        Programs(4, 0, SETS).fit(train[:3].copy())
    other = ad.AnnData(sparse.csr_matrix(train.X), train.obs, train.var, uns={"embryo": {"expression": "relative"}})
    with pytest.raises(SchemaError, match="expression 'relative'"):
        fitted.encode(other)
    assert torch.is_grad_enabled()


@pytest.fixture(scope="module")
def over_geneformer(tiny, human_cells):
    source, adata = tiny("geneformer"), human_cells(n=40)
    names = list(adata.var_names)
    sets = GeneSets({"first": tuple(names[:6]), "second": tuple(names[4:12]), "silent": (names[-1], names[-2])})
    return Programs(3, 0, sets, source, QUICK).fit(adata), adata


def test_gene_states_are_those_of_the_source(over_geneformer, tiny):
    head, adata = over_geneformer
    genes = list(head.genes)
    tokens = tiny("geneformer").tokenize(next(tiny("geneformer").profiles(adata))[1])
    for rows, states, found in tiny("geneformer").gene_embeddings(adata, genes):
        alone = [tokens.batch([int(row)], pad=0) for row in rows]
        for cell, batch in enumerate(alone):
            hidden = tiny("geneformer").forward(batch).gene[0].detach()
            for k, gene in enumerate(genes):
                at = (batch.columns[0] == list(adata.var_names).index(gene)).nonzero().ravel()
                assert bool(found[cell, k]) == bool(len(at))
                if len(at):
                    np.testing.assert_allclose(states[cell, k].numpy(), hidden[at[0]].numpy(), atol=1e-5)


def test_a_head_over_a_pretrained_encoder_embeds_scores_and_edits(over_geneformer):
    head, adata = over_geneformer
    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_allclose(head.encode(adata[order].copy()), head.encode(adata)[order], atol=1e-5)
    gene = head.fitted.membership.members("first")[1]
    before = adata.copy()
    shift = head.shift(adata, head.program_edits("first"))
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), before.layers["counts"].toarray())
    assert np.abs(shift.z).max() > 0
    silent = head.shift(adata, [Edit(str(adata.var_names[-1]))])
    assert not silent.z.any()
    assert head.response([gene]).shape == (1, 3)


def test_a_stored_head_over_a_pretrained_encoder_asks_for_it(over_geneformer, tiny):
    head, adata = over_geneformer
    gene, other = head.genes[0], head.genes[7]
    rows = head.response([gene])
    record = json.loads(json.dumps(head.record()))
    assert record["source"]["encoder"] == "geneformer"
    assert record["source"]["weights"] == "random"
    assert head.provenance()["source"]["weights"] == "random"
    assert head.provenance()["programs"].startswith("3 programs of 14 genes")
    alone = Programs.restore(head.tensors(), record)
    np.testing.assert_array_equal(alone.response([gene]), rows)
    np.testing.assert_array_equal(alone.decode(np.ones((2, 3))), head.decode(np.ones((2, 3))))
    with pytest.raises(StaleError, match="without its weights"):
        alone.encode(adata)
    with pytest.raises(StaleError, match=f"no response to {other}"):
        alone.response([other])
    again = Programs.restore(head.tensors(), record, tiny("geneformer"))
    np.testing.assert_allclose(again.encode(adata), head.encode(adata), atol=1e-6)


def test_only_as_many_cells_as_their_states_take_room(over_geneformer, monkeypatch, tiny):
    head, adata = over_geneformer
    width = head.fitted.network.sizes.states
    monkeypatch.setattr("embryo.encoders.programs.head._STATES", 4 * width * len(head.genes) * 25)
    assert head._chosen(adata, len(head.genes)).n_obs == 25


@pytest.mark.real
def test_programs_of_a_real_embryo_reconstruct_another_one(real, real_folder):
    adata = real("mouse-tal1-chimera")
    sets = gmt.read(real_folder("gene-programs") / "tosica_gmt" / "m_reactome.gmt")
    ids = Orthologs.read(real_folder("gene-orthologs") / "mouse_to_human.csv").ids
    symbol = {found[0]: name for name, found in ids.items() if len(found) == 1}
    adata.var_names = [symbol.get(name, name) for name in adata.var_names]
    one, other = (adata[adata.obs[schema.EMBRYO] == name][:500].copy() for name in ("sample3", "sample4"))
    head = Programs(16, 0, sets, training=Training(fewest=12, epochs=8, width=16)).fit(one)
    assert set(head.genes) <= set(one.var_names)
    found = head.reconstruction(other)
    assert found.beats_floor
    assert found.r2 > 0.2
    assert "of the train mean (1 fold by embryo)" in str(found)


def test_a_training_that_diverges_says_so(train):
    with pytest.raises(DivergedError, match="programs: found a loss of"):
        Programs(4, 0, SETS, training=Training(fewest=2, learning_rate=1e30)).fit(train)
