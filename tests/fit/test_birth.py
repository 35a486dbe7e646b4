"""Growth from numbers of descendants: the growth gene of the synthetic embryo is found among eighteen."""

import itertools

import numpy as np
import pytest
import torch

from embryo.core import pedigree
from embryo.datasets import synthetic
from embryo.datasets.synthetic.circuit import INDEX, PANEL
from embryo.fields.mechanics import Mechanics
from embryo.fit.birth import Rates, births

TIMES = (2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0)


def followed(seeds: tuple[int, ...]) -> Rates:
    parts = []
    for seed in seeds:
        shots = synthetic.simulate(synthetic.Params(n_cells=300), seed=seed, times_h=TIMES).snapshots
        for a, b in itertools.pairwise(shots):
            where, cell = {c: k for k, c in enumerate(a.cell.tolist())}, b.cell.copy()
            while (lost := np.array([c not in where for c in cell.tolist()])).any():
                cell[lost] = pedigree.parent(cell[lost])
            mother = np.array([where[c] for c in cell.tolist()])
            n = np.bincount(mother, minlength=len(a.cell)).astype(float)
            after = np.stack([np.bincount(mother, b.g[:, k], len(n)) for k in range(len(PANEL))], axis=1) / n[:, None]
            one = np.ones(len(n))
            parts.append(((a.g + after) / 2, (a.t_h + 1) / 16 * one, 2 * one, n, np.full(len(n), str(seed))))
    return Rates(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def test_the_growth_gene_is_found_and_the_number_of_cells_comes_out() -> None:
    rates, law = followed((1, 2, 3, 4)), Mechanics(genes=len(PANEL), space=3).double()
    births(law, rates)
    say = {gene: round(float(h), 3) for gene, h in zip(PANEL, law.birth, strict=True)} | {"base": law.base.tolist()}
    assert int(law.birth.abs().argmax()) == INDEX["growth"], say
    assert float(law.birth[INDEX["growth"]]) == pytest.approx(0.115, abs=0.04), say
    q = law.base[0] + law.base[1] * torch.tensor(rates.tau) + torch.tensor(rates.levels) @ law.birth
    assert float((2 * q).exp().sum()) == pytest.approx(rates.descendants.sum(), rel=0.01)
