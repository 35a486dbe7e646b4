import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from embryo.core.errors import ConfigError, DivergedError, SchemaError
from embryo.encoders.decoding import decoder
from embryo.encoders.decoding.decoder import Decoder, fit_decoder

GENES = [f"gene{j}" for j in range(12)]


def linear(n=120, dims=4, noise=0.0, embryos=6, seed=0):
    """Genes that are a linear map of z: what a decoder must find."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, dims)) * rng.uniform(0.5, 3, dims) + 2
    weight, bias = rng.normal(size=(dims, len(GENES))), rng.uniform(1, 3, len(GENES))
    y = z @ weight + bias + noise * rng.normal(size=(n, len(GENES)))
    return z, y, np.array([f"e{i % embryos}" for i in range(n)]), weight, bias


def test_a_linear_map_is_recovered_as_least_squares_recovers_it():
    z, y, embryo, weight, _ = linear()
    fitted = fit_decoder(z, y, embryo, genes=GENES)
    found = np.linalg.lstsq(np.column_stack([z, np.ones(len(z))]), y, rcond=None)[0]
    np.testing.assert_allclose(fitted.tensors()["0.weight"].T, found[:-1], atol=1e-6)
    np.testing.assert_allclose(fitted.tensors()["0.bias"], found[-1], atol=1e-6)
    np.testing.assert_allclose(found[:-1], weight, atol=1e-9)
    assert fitted.held_out.rmse < 1e-6
    assert fitted.held_out.r2 > 1 - 1e-9
    assert fitted.held_out.beats_floor


@pytest.mark.parametrize("n", [25, 120])
def test_the_penalty_has_the_smallest_generalised_cross_validation_score(n):
    """Against the definition, with the hat matrix written out, and sklearn's ridge at that penalty."""
    z, y, embryo, _, _ = linear(n, dims=20, noise=2.0)
    fitted = fit_decoder(z, y, embryo, genes=GENES)
    centred = z - z.mean(axis=0)

    def score(penalty):
        gram = centred.T @ centred + penalty * np.eye(20)
        hat = centred @ np.linalg.solve(gram, centred.T) + np.ones((n, n)) / n
        return n * ((y - hat @ y) ** 2).sum() / (n - np.trace(hat)) ** 2

    grid = decoder._PENALTIES * np.linalg.eigvalsh(centred.T @ centred).mean()
    best = Ridge(alpha=grid[np.argmin([score(p) for p in grid])]).fit(z, y)
    assert grid[0] < best.alpha < grid[-1]
    np.testing.assert_allclose(fitted.predict(z), best.predict(z), rtol=1e-9, atol=1e-9)


def test_the_held_out_error_is_that_of_folds_of_whole_embryos():
    z, y, embryo, _, _ = linear(noise=1.0, embryos=3)
    found = fit_decoder(z, y, embryo, genes=GENES).held_out
    ours, floor = [], []
    for held in np.unique(embryo):
        train, test = embryo != held, embryo == held
        ours.append(fit_decoder(z[train], y[train], embryo[train], genes=GENES).predict(z[test]) - y[test])
        floor.append(y[train].mean(axis=0) - y[test])
    ours, floor = np.concatenate(ours), np.concatenate(floor)
    np.testing.assert_allclose(found.rmse, np.sqrt((ours**2).mean()))
    np.testing.assert_allclose(found.floor, np.sqrt((floor**2).mean()))
    np.testing.assert_allclose(found.r2, 1 - (ours**2).sum() / (floor**2).sum())
    np.testing.assert_allclose(found.r2_median, np.median(1 - (ours**2).sum(0) / (floor**2).sum(0)))
    assert str(found) == (
        f"decoder: held-out RMSE {found.rmse:.3g} against {found.floor:.3g} of the train mean (3 folds by embryo)"
    )


@pytest.mark.parametrize("kind", decoder.KINDS)
def test_labels_of_the_held_out_embryo_do_not_reach_the_fit(kind, monkeypatch):
    z, y, embryo, _, _ = linear(60, noise=1.0, embryos=2)
    codes = np.unique(embryo, return_inverse=True)[1]
    train, test = np.flatnonzero(codes == 0), np.flatnonzero(codes == 1)
    shuffled = y.copy()
    shuffled[test] = y[np.random.default_rng(1).permutation(test)]
    fits = []
    fit = decoder._fit

    def spy(data, *settings):
        fits.append(fit(data, *settings))
        return fits[-1]

    monkeypatch.setattr(decoder, "_fit", spy)
    for truth in (y, shuffled):
        decoder._fold_error(decoder._Cells(z, truth, codes), train, test, kind, 0)
    one, two = (network.state_dict() for network in fits)
    for key in one:
        np.testing.assert_array_equal(one[key], two[key])


def test_a_reduction_does_not_see_the_held_out_embryo():
    """As PCA of scikit-learn, fitted on the training embryos of each fold, gives it."""
    rng = np.random.default_rng(3)
    embryo = np.repeat(["a", "b", "c"], 20)
    z = rng.normal(size=(60, 40)) + np.repeat(rng.normal(size=(3, 40)) * 3, 20, axis=0)  # embryos differ
    y = z[:, :5] @ rng.normal(size=(5, len(GENES))) + rng.normal(size=(60, len(GENES)))
    found = fit_decoder(z, y, embryo, genes=GENES, dims=6)
    errors = []
    for held in ("a", "b", "c"):
        train, test = embryo != held, embryo == held
        axes = PCA(6, svd_solver="full").fit(z[train])
        inner = fit_decoder(axes.transform(z[train]), y[train], genes=GENES)
        errors.append(inner.predict(axes.transform(z[test])) - y[test])
    np.testing.assert_allclose(found.held_out.rmse, np.sqrt((np.concatenate(errors) ** 2).mean()), rtol=1e-6)
    assert found.dims == 6


@pytest.mark.parametrize("kind", decoder.KINDS)
def test_an_embedding_that_knows_nothing_is_no_better_than_the_mean(kind):
    _, y, embryo, _, _ = linear(200, noise=1.0)
    z = np.random.default_rng(9).normal(size=(200, 4))
    found = fit_decoder(z, y, embryo, genes=GENES, kind=kind).held_out
    assert found.r2 < 0.01
    assert not found.beats_floor
    assert str(found).endswith("(5 folds by embryo): not better than the train mean")


def test_one_embryo_is_measured_by_cells_and_says_so():
    z, y, _, _, _ = linear(noise=0.5)
    for embryo in (None, np.full(len(z), "only")):
        assert "(5 folds by cell)" in str(fit_decoder(z, y, embryo, genes=GENES).held_out)


def test_a_network_follows_what_is_not_linear():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(600, 2))
    y = np.column_stack([np.abs(z[:, 0]), z[:, 0] * z[:, 1]])
    embryo = np.arange(600) % 6
    ridge, network = (fit_decoder(z, y, embryo, genes=["a", "b"], kind=kind) for kind in decoder.KINDS)
    assert not ridge.held_out.beats_floor
    assert network.held_out.beats_floor
    assert network.held_out.r2 > 0.7
    again = fit_decoder(z, y, embryo, genes=["a", "b"], kind="network")
    np.testing.assert_array_equal(again.predict(z), network.predict(z))
    assert again.held_out == network.held_out


@pytest.mark.parametrize("kind", decoder.KINDS)
def test_a_stored_decoder_predicts_the_same(kind):
    z, y, embryo, _, _ = linear(60, noise=0.5)
    fitted = fit_decoder(z, y, embryo, genes=GENES, kind=kind, seed=3)
    again = Decoder.restore(fitted.tensors(), json.loads(json.dumps(fitted.record())))
    np.testing.assert_array_equal(again.predict(z), fitted.predict(z))
    assert again.record() == fitted.record()
    assert (again.dims, again.genes, again.seed) == (4, tuple(GENES), 3)
    with pytest.raises(ValueError, match="size mismatch"):
        Decoder.restore(fitted.tensors(), fitted.record() | {"genes": GENES[:-1]})


@settings(max_examples=20)
@given(seed=st.integers(0, 50), scale=st.floats(0.01, 100), as_sparse=st.booleans())
def test_a_rotated_and_scaled_embedding_decodes_the_same(seed, scale, as_sparse):
    """A basis is no information; nor is the way the zeros are kept."""
    z, y, embryo, _, _ = linear(40, noise=1.0, seed=seed)
    y = np.where(y > np.median(y), y, 0)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))[0] * scale
    one = fit_decoder(z, y, embryo, genes=GENES)
    two = fit_decoder(z @ turn, sparse.csr_matrix(y) if as_sparse else y, embryo, genes=GENES)
    np.testing.assert_allclose(two.predict(z @ turn), one.predict(z), atol=1e-8)
    np.testing.assert_allclose(two.held_out.rmse, one.held_out.rmse)


@pytest.mark.parametrize("kind", decoder.KINDS)
def test_constant_inputs_and_genes_are_decoded_as_their_mean(kind):
    y = np.full((20, 2), [1.5, 0.0])
    fitted = fit_decoder(np.ones((20, 3)), y, None, genes=["a", "b"], kind=kind)
    np.testing.assert_allclose(fitted.predict(np.ones((1, 3))), y[:1], atol=0.05)
    assert not fitted.held_out.beats_floor


def test_bad_requests_are_told_at_once():
    z, y, embryo, _, _ = linear(20)
    with pytest.raises(ConfigError, match="decoder 'tree'"):
        fit_decoder(z, y, embryo, genes=GENES, kind="tree")
    with pytest.raises(SchemaError) as error:
        fit_decoder(z, np.where(y > 5, np.nan, y)[:-1], embryo, genes=GENES[:-1])
    for part in ("20 embeddings, 19 rows of expression and 20 embryos", "11 names for 12 genes", "NaN"):
        assert part in str(error.value)
    with pytest.raises(SchemaError, match="3 cells"):
        fit_decoder(z[:3], y[:3], None, genes=GENES)
    with pytest.raises(SchemaError, match="NaN or infinite"):
        fit_decoder(np.where(z > 3, np.inf, z), y, embryo, genes=GENES)
    with pytest.raises(SchemaError, match="z of 3 columns; expected 4"):
        fit_decoder(z, y, embryo, genes=GENES).predict(z[:, :3])


def test_a_network_that_diverges_says_so(monkeypatch):
    z, y, embryo, _, _ = linear(20)
    monkeypatch.setattr(decoder, "_RATE", 1e30)
    with pytest.raises(DivergedError, match="decoder: found a loss of"):
        fit_decoder(z, y, embryo, genes=GENES, kind="network")
