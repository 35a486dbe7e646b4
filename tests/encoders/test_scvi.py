import importlib
import importlib.util
import json

import numpy as np
import pytest
import torch

from embryo.core import schema
from embryo.core.encoder import Encoder
from embryo.core.errors import ConfigError, SchemaError, StaleError
from embryo.encoders import scvi as adapter
from embryo.encoders.inputs import normalise
from embryo.encoders.scvi import ScVI

needs_scvi = pytest.mark.skipif(importlib.util.find_spec("scvi") is None, reason="scvi-tools, an extra, is absent")
ours = pytest.mark.filterwarnings("default")  # the package and its trainer warn of what is theirs


@pytest.fixture
def data(cells):
    adata = cells(120)
    adata.obs[schema.EMBRYO] = [f"e{i % 3}" for i in range(120)]
    return adata


@pytest.fixture(scope="module")
def fitted(cells):
    adata = cells(120)
    adata.obs[schema.EMBRYO] = [f"e{i % 3}" for i in range(120)]
    return ScVI(4, 0, epochs=3).fit(adata)


def test_it_is_an_encoder():
    assert isinstance(ScVI(3), Encoder)


def test_without_the_extra_it_says_how_to_get_it(data, monkeypatch):
    def absent(name):
        msg = f"No module named {name!r}"
        raise ModuleNotFoundError(msg)

    monkeypatch.setattr(adapter, "import_module", absent)
    with pytest.raises(ConfigError) as error:
        ScVI(3).fit(data)
    assert "no scvi-tools (No module named 'scvi')" in str(error.value)
    assert "pip install 'embryo[scvi]'" in str(error.value)


def test_before_fit_and_damaged_records():
    with pytest.raises(StaleError, match="before fit"):
        ScVI(3).response(["a"])
    record = {"dims": 3, "seed": 0, "epochs": 1, "genes": ["a", "b"], "share": 1.0}
    with pytest.raises(ValueError, match=r"Jacobian of shape \(3, 3\)"):
        ScVI.restore({"jacobian": np.zeros((3, 3)), "network.w": np.zeros(1)}, record)


@needs_scvi
@ours
def test_the_embedding_is_that_of_scvi_tools(data, fitted):
    """Its own model, the weights put into it, asked through its own interface."""
    SCVI = importlib.import_module("scvi").model.SCVI
    own = data[:, list(fitted.genes)].copy()
    SCVI.setup_anndata(own, layer="counts")
    model = SCVI(own, n_layers=2, n_latent=4, gene_likelihood="nb")
    model.module.load_state_dict({key: torch.as_tensor(value) for key, value in fitted.weights.items()})
    model.is_trained_ = True
    model.module.eval()
    z = fitted.encode(data)
    np.testing.assert_allclose(z, model.get_latent_representation(give_mean=True), atol=1e-5)
    np.testing.assert_array_equal(fitted.encode(data), z)
    inputs = model.module._get_generative_input
    with torch.no_grad():
        posterior = {"z": torch.as_tensor(z, dtype=torch.float32), "library": torch.zeros(120, 1)}
        batch = torch.zeros(120, 1, dtype=torch.long)
        generated = model.module.generative(**inputs({"batch": batch, "labels": batch}, posterior))
    np.testing.assert_allclose(np.expm1(fitted.decode(z)) / 1e4, generated["px"].scale, rtol=1e-3, atol=1e-7)


@needs_scvi
@ours
def test_seed_order_and_company(data, fitted):
    before = (torch.get_rng_state(), np.random.get_state()[1].copy())  # noqa: NPY002
    again = ScVI(4, 0, epochs=3).fit(data)
    for key, value in fitted.tensors().items():
        np.testing.assert_array_equal(again.tensors()[key], value)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    other = ScVI(4, 1, epochs=3).fit(data)
    assert not np.allclose(other.encode(data), fitted.encode(data))
    order = np.random.default_rng(0).permutation(120)[:40]
    shuffled = data[order, np.random.default_rng(1).permutation(data.n_vars)].copy()
    np.testing.assert_allclose(fitted.encode(shuffled), fitted.encode(data)[order], atol=1e-5)


@needs_scvi
@ours
def test_a_stored_one_embeds_and_decodes_the_same(data, fitted):
    again = ScVI.restore(fitted.tensors(), json.loads(json.dumps(fitted.record())))
    z = fitted.encode(data)
    np.testing.assert_array_equal(again.encode(data), z)
    np.testing.assert_array_equal(again.decode(z), fitted.decode(z))
    np.testing.assert_array_equal(
        again.response(["gene003", "unheard"])[0], fitted.jacobian[fitted.genes.index("gene003")]
    )
    assert again.record() == fitted.record()


@needs_scvi
@ours
def test_decoded_cells_have_the_library_size_of_the_rest(data):
    longer = ScVI(4, 0, epochs=200).fit(data)
    decoded = np.expm1(longer.decode(longer.encode(data)))
    np.testing.assert_allclose(decoded.sum(1), 1e4, rtol=1e-4)
    where = [data.var_names.get_loc(g) for g in longer.genes]
    truth = np.expm1(normalise.log1p_normalised(data).toarray()[:, where])
    assert ((decoded - truth) ** 2).mean() < 0.9 * ((truth.mean(0) - truth) ** 2).mean()


@needs_scvi
@ours
def test_response_is_the_derivative_in_log1p_levels(data, fitted):
    """Against counts changed by hand so that the level rises a little, with the other counts as they are."""
    counts = torch.as_tensor(data.layers["counts"].toarray()[:, [data.var_names.get_loc(g) for g in fitted.genes]])
    total = counts.sum(1, keepdim=True)
    step, gene = 1e-3, 5
    level = torch.log1p(counts[:, [gene]] / total * 1e4)
    moved = counts.clone()
    moved[:, [gene]] = torch.expm1(level + step) * total / 1e4
    change = (fitted._mean(moved.float()) - fitted._mean(counts.float())).mean(0) / step
    np.testing.assert_allclose(fitted.response([fitted.genes[gene]])[0], change, rtol=0.05, atol=1e-3)


@needs_scvi
@ours
def test_what_is_no_count_is_refused(cells):
    with pytest.raises(SchemaError, match="raw counts"):
        ScVI(3).fit(cells(kind="log1p"))
