from dataclasses import replace

import numpy as np
import pytest

from embryo.datasets.synthetic import EDGES, FATES, PANEL, Circuit, Params, fates, simulate

N = len(PANEL)


def isolated(bias: np.ndarray, rate: np.ndarray, decay: np.ndarray) -> Circuit:
    return Circuit(np.zeros((N, N)), np.zeros((N, 4)), bias, rate, decay)


def test_isolated_genes_follow_the_closed_form(static: Params) -> None:
    """dg/dt = R sigma(h) - lambda g: an exponential approach to R sigma(h) / lambda, for every gene at its own pace."""
    rng = np.random.default_rng(0)
    bias, rate, decay = rng.normal(size=N), rng.uniform(0.5, 2, N), rng.uniform(0.3, 3, N)
    params = replace(static, circuit=isolated(bias, rate, decay), molecules=1e14)
    embryo = simulate(params, seed=1, times_h=(0.0, 1.0, 3.0, 16.0))
    end = rate / (1 + np.exp(-bias)) / decay
    start = embryo.at(0.0).g
    for snapshot in embryo.snapshots:
        left = np.exp(-decay * snapshot.t_h)
        np.testing.assert_allclose(snapshot.g, start * left + end * (1 - left), atol=1e-5)
        np.testing.assert_allclose(snapshot.dg, decay * (end - snapshot.g), atol=1e-4)


def test_a_gene_at_rest_is_poisson_in_molecules(static: Params) -> None:
    """Stationary birth and death: mean R sigma / lambda, variance mean / molecules (van Kampen, chapter VI)."""
    bias = np.linspace(-1, 2, N)
    params = replace(static, n_cells=2000, circuit=isolated(bias, np.ones(N), np.ones(N)), molecules=2000.0)
    g = simulate(params, seed=2, times_h=(12.0,)).at(12.0).g
    mean = 1 / (1 + np.exp(-bias))
    np.testing.assert_allclose(g.mean(0), mean, atol=5 * np.sqrt(mean.max() / 2000 / 2000))
    np.testing.assert_allclose(g.var(0), mean / 2000, rtol=5 * np.sqrt(2 / 2000))


def test_the_matrices_hold_the_table_of_edges() -> None:
    circuit = Circuit()
    drawn = {
        (source, target): weight
        for target, (_, sources) in EDGES.items()
        for source, weight in sources.items()
        if source in PANEL
    }
    for b, source in enumerate(PANEL):
        for a, target in enumerate(PANEL):
            assert circuit.weights[a, b] == drawn.get((source, target), 0.0)
    assert set(EDGES) == set(PANEL)


def test_the_last_five_genes_feed_back_on_none() -> None:
    assert not Circuit().weights[:, -5:].any()


def test_production_of_one_gene_by_hand() -> None:
    """organiser <- ligand with weight 8 and bias -4."""
    g = np.zeros((2, N))
    g[1, PANEL.index("ligand")] = 1.0
    got = Circuit().production(g, np.zeros((2, 4)))[:, PANEL.index("organiser")]
    np.testing.assert_allclose(got, [1 / (1 + np.exp(4)), 1 / (1 + np.exp(-4))])


@pytest.mark.parametrize(("gene", "fate"), [("neural_a", "neural-anterior"), ("organiser", "organiser")])
def test_the_strongest_selector_names_the_fate(gene: str, fate: str) -> None:
    g = np.full((1, N), 0.1)
    assert fates(g)[0] == "undetermined"
    g[0, PANEL.index(gene)] = 0.5
    g[0, PANEL.index("mesoderm")] = 0.4
    assert fates(g)[0] == fate
    assert fate in FATES
