"""What all tests share: one thread, fixed seeds, no deadlines, the broken inputs of `broken/`, the way to real data."""

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before numpy and torch are first imported

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

if TYPE_CHECKING:
    from anndata import AnnData

settings.register_profile(
    "embryo", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("embryo")


def _load(name: str) -> ModuleType:
    """Import a package of this folder that holds no tests; pytest's importlib mode puts no folder on the path."""
    folder = Path(__file__).with_name(name)
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


broken_inputs = _load("broken")


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Seed what draws without being given a generator."""
    np.random.seed(0)  # noqa: NPY002  the legacy state is what other libraries draw from
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture(params=sorted(broken_inputs.BROKEN_FILES))
def broken(request: pytest.FixtureRequest, tmp_path: Path) -> object:
    """Write one broken input after another; `broken.path`, `.keys`, `.needs`, `.error`, `.says`."""
    return broken_inputs.BROKEN_FILES[request.param].written(tmp_path)


@pytest.fixture(params=sorted(n for n, b in broken_inputs.BROKEN_FILES.items() if not b.needs))
def broken_file(request: pytest.FixtureRequest, tmp_path: Path) -> object:
    """Those that are broken whatever the next step needs; `broken_file.argv` are the words after ``embryo check``."""
    return broken_inputs.BROKEN_FILES[request.param].written(tmp_path)


@pytest.fixture
def real_folder() -> Callable[[str], Path]:
    """Return the folder of a real dataset, or skip with the reason where neither the cache nor the mirror holds it."""
    from embryo import datasets  # noqa: PLC0415  not before the shapes of the package are checked
    from embryo.core.errors import DataError  # noqa: PLC0415

    def find(name: str) -> Path:
        try:
            return datasets.locate(name)
        except DataError as error:
            pytest.skip(f"{name} is in neither the cache nor EMBRYO_DATA_MIRROR: {error.problems[0].found}")

    return find


@pytest.fixture
def real(real_folder: Callable[[str], Path]) -> "Callable[..., AnnData]":
    """Load a real dataset, or skip."""
    from embryo import datasets  # noqa: PLC0415

    def load(name: str, **params: object) -> "AnnData":
        real_folder(name)
        return datasets.load(name, **params)

    return load
