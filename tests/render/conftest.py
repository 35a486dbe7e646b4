"""A toy embryo: an ellipsoid of cells with six fates that grows along x; its edit does not grow a tail."""

import numpy as np
import pytest

from embryo.render import Panel

FATES = ("ectoderm", "endoderm", "mesoderm", "neural", "notochord", "tail bud")


@pytest.fixture(autouse=True)
def _without_gl(monkeypatch):
    monkeypatch.setenv("EMBRYO_GL", "off")


def body(t=0.5, *, n=300, edit=False, seed=0):
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(n, 3))
    u *= rng.random((n, 1)) ** (1 / 3) / np.linalg.norm(u, axis=1, keepdims=True)
    fates = [u[:, 0] > 0.6, u[:, 2] > 0.45, np.hypot(u[:, 1], u[:, 2]) < 0.25, u[:, 2] < -0.3, u[:, 1] > 0.3]
    labels = np.select(fates, ["tail bud", "neural", "notochord", "endoderm", "mesoderm"], "ectoderm")
    return u * [120 + (40 if edit else 160) * t, 100 + 10 * t, 90 + 20 * t], labels


@pytest.fixture
def pair():
    def make(t=0.5, n=300):
        x, labels = body(t, n=n)
        y, other = body(t, n=n, edit=True)
        return (
            Panel("wild type", x, labels=labels, name="fate"),
            Panel("knockout", y, labels=other, name="fate", ghost=x, ghost_name="the wild type"),
        )

    return make
