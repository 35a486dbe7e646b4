import os
import re
from pathlib import Path

import pytest

from embryo import datasets
from embryo.core.errors import DataError
from embryo.datasets.transfer import MIRROR_VARIABLE

ASKED_FOR = {
    "celegans-epic", "celegans-packer", "mouse-blastocyst-wt", "drosophila-bdtnp", "mouse-tal1-chimera",
    "embryoid-body", "emt", "zebrafish", "simulation-lj", "simulation-attract", "simulation-no-interact",
    "stvcr-bio-prior", "stvcr-bio-prior-5pts", "stvcr-heart2duck", "stvcr-rectangle", "mosta",
    "gene-orthologs", "foundation-vocabularies", "gene-programs", "foundation-golden",
}  # fmt: skip


def test_every_dataset_is_registered() -> None:
    assert set(datasets.names()) >= ASKED_FOR
    assert datasets.names() == sorted(datasets.names())


@pytest.mark.parametrize("name", datasets.names())
def test_entry_is_complete(name: str) -> None:
    entry = datasets.entry(name)
    assert entry.name == name
    assert all((entry.title, entry.organism, entry.about, entry.licence, entry.citation, entry.origin))
    assert entry.files
    assert entry.caveats
    assert len({f.path for f in entry.files}) == len(entry.files)
    for file in entry.files:
        assert file.path.startswith(f"{entry.folder}/")
        assert ".." not in file.path
        assert file.url is None or re.match(r"https://[\w.]+/", file.url)
        assert file.url is not None or entry.unreachable
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert (file.sha256 is None) == (file.bytes is None)


@pytest.mark.parametrize("name", datasets.names())
def test_github_addresses_name_a_commit(name: str) -> None:
    for file in datasets.entry(name).files:
        if file.url and "github" in file.url:
            assert re.match(r"https://raw\.githubusercontent\.com/[\w.-]+/[\w.-]+/[0-9a-f]{40}/\S+$", file.url)


def test_known_facts() -> None:
    epic = datasets.entry("celegans-epic")
    assert len(epic.files) == 127
    assert len({f.facts["reporter"] for f in epic.files}) == 127
    pha4 = next(f for f in epic.files if f.facts["reporter"] == "pha-4")
    assert pha4.name == "CD20080418_pha-4_3E3C5_1.csv"
    assert pha4.url == (
        "https://raw.githubusercontent.com/DevoLearn/DevoGraph/ca9bdf8986786c6bb3789bcdc17c1e537c60584c/"
        "Spatio-Temporal-Evolution/Dataset/raw/CD20080418_pha-4_3E3C5_1.csv"
    )
    matrices = [f for f in datasets.entry("celegans-packer").files if f.name.endswith("_count_matrix.csv")]
    assert len(matrices) == 42
    assert [f.name.split("_")[0] for f in datasets.entry("mosta").files] == [f"E{d}.5" for d in range(9, 17)]


def test_a_converted_file_has_no_address_but_a_cure() -> None:
    tal1 = datasets.entry("mouse-tal1-chimera")
    assert tal1.files[0].url is None
    assert "zellkonverter::writeH5AD" in tal1.unreachable
    assert "58073bad2368d7d8234c465a59c4b52fd6322cc16d00a8b1d563d406241d6d24" in " ".join(tal1.caveats)


def test_files_of_one_dataset_may_come_from_several_repositories() -> None:
    files = {f.path: f for f in datasets.entry("foundation-vocabularies").files}
    assert files["foundation-models/gremln/gene_vocab.csv"].url == (
        "https://raw.githubusercontent.com/czi-ai/GREmLN/6ce9cc2fa79fee63aa2366d05566010184ea6d9a/"
        "scGraphLLM/resources/gene_vocab.csv"
    )
    assert files["foundation-models/scgpt/default_gene_vocab.json"].url.split("/")[3:5] == ["bowang-lab", "scGPT"]
    assert files["foundation-models/geneformer_v1/token_dictionary.json"].url is None  # a pickle at its origin


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean 'celegans-epic'"):
        datasets.entry("celegans-epik")


def test_cellxgene_by_version_id() -> None:
    identifier = "01234567-89ab-cdef-0123-456789abcdef"
    entry = datasets.entry(f"cellxgene:{identifier}")
    assert entry.files[0].url == f"https://datasets.cellxgene.cziscience.com/{identifier}.h5ad"
    assert entry.files[0].sha256 is None


@pytest.mark.parametrize("name", ["cellxgene:", "cellxgene:tbx6", "cellxgene:../../../etc/passwd"])
def test_cellxgene_refuses_what_is_no_id(name: str) -> None:
    with pytest.raises(DataError, match="dataset version id"):
        datasets.entry(name)


@pytest.mark.real
def test_registry_agrees_with_the_checksums_of_the_mirror() -> None:
    mirror = os.environ.get(MIRROR_VARIABLE)
    sums = Path(mirror or ".") / "SHA256SUMS"
    if not mirror or not sums.is_file():
        pytest.skip(f"{MIRROR_VARIABLE} names no mirror with SHA256SUMS")
    listed = dict(reversed(line.split()) for line in sums.read_text().splitlines())
    checked = 0
    for name in datasets.names():
        for file in datasets.entry(name).files:
            if file.sha256 is not None:
                assert listed[f"./{file.path}"] == file.sha256, file.path
                assert (Path(mirror) / file.path).stat().st_size == file.bytes, file.path
                checked += 1
    folders = {datasets.entry(name).folder for name in datasets.names()}
    made_here = ("./celegans-epic/embryos.csv", "/NOTE.md")
    expected = [p for p in listed if p.split("/")[1] in folders and not p.endswith(made_here)]
    assert checked == len(expected)


@pytest.mark.parametrize("name", datasets.names())
def test_the_readme_of_the_data_folder_agrees(name: str) -> None:
    text = (Path(__file__).parents[2] / "data" / "README.md").read_text(encoding="utf-8")
    entry = datasets.entry(name)
    [row] = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
    assert entry.origin in row
    assert entry.licence in row
    assert f"| {len(entry.files)} |" in row
    assert f"- `{name}`: {entry.citation}" in text
