"""Small synthetic embryos: half the default egg, so that a run takes about a second."""

from dataclasses import replace

import pytest

from embryo.datasets.synthetic import Maternal, Mechanics, Params

SHRINK = 0.5 ** (1 / 3)


@pytest.fixture(scope="session")
def small() -> Params:
    """An egg of half the volume with the same proportions, in steps of 0.2 h."""
    return Params(
        n_cells=600,
        semi_axes_um=(110 * SHRINK, 50 * SHRINK, 50 * SHRINK),
        dt_h=0.2,
        maternal=Maternal(lengths_um=(75 * SHRINK, 75 * SHRINK, 27.5 * SHRINK)),
        mechanics=Mechanics(membrane_radius_um=60 * SHRINK),
    )


@pytest.fixture(scope="session")
def static(small: Params) -> Params:
    """Neither motion nor division."""
    return replace(small, mechanics=None, growth=None)
