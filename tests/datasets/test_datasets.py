import subprocess
import sys

import pytest

from embryo import datasets


@pytest.mark.parametrize("name", datasets.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(datasets, name) is not None


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fetchall'"):
        _ = datasets.fetchall


def test_the_registry_is_light() -> None:
    """Listing datasets must not load torch, AnnData or a plotting library."""
    code = (
        "import sys; from embryo import datasets; datasets.names(); "
        "print(sorted({'torch', 'anndata', 'pyvista', 'squidpy', 'ot'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
