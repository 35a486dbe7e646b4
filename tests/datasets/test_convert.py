import hashlib
from pathlib import Path

import pandas as pd
import pytest

from embryo import datasets
from embryo.core import schema
from embryo.core.errors import ConfigError, DataError, SchemaError
from embryo.datasets import contract, convert, transfer
from embryo.datasets.registry import Dataset, File


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    path = tmp_path / "mirror" / "toy" / "s.csv"
    path.parent.mkdir(parents=True)
    pd.DataFrame({"samples": [0, 1], "x1": [1.0, 2.0]}).to_csv(path, index=False)
    file = File("toy/s.csv", None, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
    made = Dataset("toy", "Toy", "none", "A toy.", "CC0", "nobody", "here", (file,), "snapshots:convert", ("Mind it.",))
    monkeypatch.setenv(transfer.MIRROR_VARIABLE, str(tmp_path / "mirror"))
    monkeypatch.setenv(transfer.CACHE_VARIABLE, str(tmp_path / "cache"))
    for module in (convert, transfer):
        monkeypatch.setattr(module, "entry", lambda name: made)
    return made


def test_load_notes_where_the_data_came_from(toy: Dataset) -> None:
    adata = datasets.load("toy", hours_per_sample=2.0)
    meta = adata.uns[schema.META]
    assert (meta["dataset"], meta["licence"], meta["citation"]) == ("toy", "CC0", "nobody")
    assert meta["sha256"] == hashlib.sha256(f"toy/s.csv {toy.files[0].sha256}".encode()).hexdigest()
    assert adata.obs[schema.TIME].tolist() == [0, 2]
    assert (meta["time_unit"], meta["space_unit"], meta["frame"]) == ("h", "um", "raw")


def test_unknown_parameters_are_refused(toy: Dataset) -> None:
    with pytest.raises(ConfigError) as caught:
        datasets.load("toy", hours_per_samples=2.0, colour="red")
    assert len(caught.value.problems) == 2
    assert "did you mean 'hours_per_sample'" in str(caught.value)


def test_load_never_fetches(toy: Dataset, tmp_path: Path) -> None:
    (tmp_path / "mirror" / "toy" / "s.csv").unlink()
    with pytest.raises(DataError, match="embryo data fetch toy"):
        datasets.load("toy")


def test_card(toy: Dataset) -> None:
    text = datasets.card("toy")
    for part in ("# toy", "A toy.", "CC0", "nobody", "Mind it.", "embryo data fetch toy"):
        assert part in text


@pytest.mark.parametrize("name", datasets.names())
def test_every_card_is_complete(name: str) -> None:
    text = datasets.card(name)
    entry = datasets.entry(name)
    assert all(part in text for part in (entry.licence, entry.citation, entry.origin, *entry.caveats))


def test_assembled_vectors_are_said_to_be_so() -> None:
    assert "never measured together" in datasets.card("celegans-epic")
    assert "never measured together" in datasets.card("drosophila-bdtnp")


NO_CELLS = {"foundation-golden", "foundation-vocabularies", "gene-orthologs", "gene-programs"}


@pytest.mark.parametrize("name", [name for name in datasets.names() if name not in NO_CELLS])
def test_every_converter_exists(name: str) -> None:
    assert callable(convert._converter(datasets.entry(name)))


@pytest.mark.parametrize("name", sorted(NO_CELLS))
def test_what_holds_no_cells_is_located_not_loaded(name: str) -> None:
    with pytest.raises(DataError, match=rf"that hold no cells.*embryo\.datasets\.locate\('{name}'\)"):
        datasets.load(name)


def test_tables_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"absent\.csv: found No such file"):
        contract.table(tmp_path / "absent.csv", ("a",))
    (tmp_path / "t.csv").write_text("a,b\n")
    with pytest.raises(SchemaError) as caught:
        contract.table(tmp_path / "t.csv", ("a", "c"))
    assert [p.found for p in caught.value.problems] == ["no column c among a, b", "no rows"]
