"""CellFM against a slow reference that is written from the equations alone: loops, float64, every pair of tokens."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import torch
from scipy import sparse
from torch.utils.flop_counter import FlopCounterMode

from embryo.core.errors import ConfigError, StoreError
from embryo.encoders import cellfm
from embryo.encoders.cellfm import CellFM
from embryo.encoders.inputs.tokens import Profiles, Tokens
from embryo.encoders.networks import cellfm_network
from embryo.encoders.networks.cellfm_network import Config
from embryo.encoders.options import Options
from embryo.encoders.weights import mindspore

GENES = [f"GENE{k}" for k in range(30)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return CellFM.write_tiny(tmp_path / "cellfm", GENES, seed=3)


def profiles(counts: np.ndarray) -> Profiles:
    counts = np.asarray(counts, dtype=np.float64)
    keys = np.arange(len(counts), dtype=np.uint64)
    return Profiles(sparse.csr_array(counts), counts.sum(axis=1), keys)


@pytest.fixture
def three(rng: np.random.Generator) -> Profiles:
    counts = rng.poisson(2.0, size=(3, len(GENES))).astype(float)
    counts[1, 4:] = 0  # few genes
    counts[:, 0] += 1
    return profiles(counts)


# ---------------------------------------------------------------- the reference


def matrix(state: dict, name: str) -> np.ndarray:
    return state[name].double().numpy()


def layer_norm(x: np.ndarray, state: dict, name: str) -> np.ndarray:
    centred = x - x.mean()
    scale = np.sqrt((centred**2).mean() + 1e-5)
    return centred / scale * matrix(state, f"{name}.weight") + matrix(state, f"{name}.bias")


def value_row(state: dict, v: float) -> np.ndarray:
    h = matrix(state, "value_enc.w1.weight")[:, 0] * v
    h = np.where(h > 0, h, 0.01 * h)
    logits = matrix(state, "value_enc.w3.weight") @ h + matrix(state, "value_enc.a")[0] * h
    p = np.exp(logits - logits.max())
    return (p / p.sum()) @ matrix(state, "value_enc.table")


def attend(state: dict, at: str, rows: np.ndarray, read: np.ndarray, heads: int, factor: float) -> np.ndarray:
    """Quadratic: every query looks at every key that `read` marks."""
    d = rows.shape[1]
    q, k, v, u = (rows @ matrix(state, f"{at}.{n}_proj.weight").T for n in "qkvu")
    q, k, v = np.maximum(q, 0) / np.sqrt(d), np.maximum(k, 0) / np.sqrt(d), v * factor
    out = np.zeros_like(rows)
    for i in range(len(rows)):
        for h in range(heads):
            part = slice(h * d // heads, (h + 1) * d // heads)
            for j in np.flatnonzero(read):
                out[i, part] += (q[i, part] @ k[j, part]) * v[j, part]
        size = np.sqrt((out[i] ** 2).mean())
        out[i] = out[i] / size if size else 0
    return (out * (u / (1 + np.exp(-u)))) @ matrix(state, f"{at}.o_proj.weight").T


def reference(
    state: dict, genes: list[int], levels: list[float], length: int, *, scaled: bool, masked: bool
) -> np.ndarray:
    """Hidden states of one cell padded to `length` rows, after all layers."""
    rows = [*matrix(state, "special")]
    rows += [value_row(state, v) + matrix(state, "gene_emb.weight")[g + 1] for g, v in zip(genes, levels, strict=True)]
    real = np.arange(length) < len(rows)
    x = np.zeros((length, rows[0].size))
    x[: len(rows)] = rows
    layers, heads = 4, 2
    alpha = (2 * layers) ** 0.25
    for k in range(layers):
        at = f"encoder.{k}"
        read = real if masked or k >= layers / 2 else np.ones(length, dtype=bool)
        o = attend(state, f"{at}.attn", x, read, heads, (length - 3) ** -0.5 if scaled else 1.0)
        y = np.array([layer_norm(alpha * a + b, state, f"{at}.post_norm1") for a, b in zip(x, o, strict=True)])
        u, v = (y @ matrix(state, f"{at}.ffn.{n}_proj.weight").T for n in "uv")
        f = (u * v) @ matrix(state, f"{at}.ffn.o_proj.weight").T
        x = np.array([layer_norm(alpha * a + b, state, f"{at}.post_norm2") for a, b in zip(y, f, strict=True)])
    return x


def state_of(folder: Path) -> dict:
    return mindspore.torch_names(mindspore.read(next(folder.glob("*.ckpt"))))


def levels(cells: Profiles, row: int) -> tuple[list[int], list[float]]:
    counts = cells.counts.toarray()[row]
    genes = np.flatnonzero(counts)
    return genes.tolist(), np.log1p(1e4 * counts[genes] / cells.total[row]).tolist()


@pytest.mark.parametrize("form", cellfm.FORMS)
def test_agrees_with_the_slow_reference(
    folder: Path, three: Profiles, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cellfm, "LONGEST", 45)  # so that the reference can carry the padding row by row
    encoder = CellFM.from_dir(folder, Options(variant=form, dtype="float32"))
    ((_, encoded),) = encoder.batches(encoder.tokenize(three))
    order = next(rows for rows, _ in encoder.batches(encoder.tokenize(three)))
    for place, row in enumerate(order):
        genes, values = levels(three, row)
        slow = reference(state_of(folder), genes, values, 48, scaled=True, masked=form == "masked")
        np.testing.assert_allclose(encoded.cell[place].numpy(), slow[0], atol=1e-5)
        np.testing.assert_allclose(encoded.gene[place, : 3 + len(genes)].numpy(), slow[: 3 + len(genes)], atol=1e-5)


@pytest.mark.parametrize(("variant", "said"), [(None, "masked"), ("masked", "masked"), ("published", "published")])
def test_the_provenance_says_which_form(folder: Path, variant: str | None, said: str) -> None:
    assert CellFM.from_dir(folder, Options(variant=variant)).provenance()["variant"] == said


def test_the_two_forms_differ_and_the_factor_on_v_cancels(folder: Path, three: Profiles) -> None:
    state, (genes, values) = state_of(folder), levels(three, 1)
    masked, plain, counted = (
        reference(state, genes, values, 30, scaled=s, masked=m)[0]
        for s, m in ((True, True), (False, True), (True, False))
    )
    np.testing.assert_allclose(masked, plain, atol=1e-12)
    assert np.abs(masked - counted).max() > 1e-3  # upstream's padding does take part
    x = torch.randn(4, 8, dtype=torch.float64)
    for factor in (1e-6, 0.03, 7e4):
        torch.testing.assert_close(cellfm_network.srms(x * factor), cellfm_network.srms(x), rtol=1e-12, atol=0)
    assert not cellfm_network.srms(torch.zeros(2, 3)).any()


# ---------------------------------------------------------------- properties


@pytest.mark.parametrize("form", cellfm.FORMS)
def test_batch_padding_and_order_do_not_matter(folder: Path, three: Profiles, form: str) -> None:
    encoder = CellFM.from_dir(folder, Options(variant=form, dtype="float32"))
    together = encoder.encode_tokens(encoder.tokenize(three))
    for row in range(3):
        alone = profiles(three.counts.toarray()[[row]])
        np.testing.assert_allclose(encoder.encode_tokens(encoder.tokenize(alone))[0], together[row], atol=2e-6)
    tokens = encoder.tokenize(three)
    turned = Tokens(
        *(
            tuple(np.concatenate([part[:3], part[3:][::-1]]) for part in p)
            for p in (tokens.ids, tokens.columns, tokens.values)
        )
    )
    np.testing.assert_allclose(encoder.encode_tokens(turned), together, atol=2e-6)


def test_no_row_and_one_row_of_padding_count_as_many(
    folder: Path, three: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = int(np.diff(three.counts.indptr).max())
    for spare in (0, 1):
        monkeypatch.setattr(cellfm, "LONGEST", longest + spare)
        encoder = CellFM.from_dir(folder, Options(variant="published", dtype="float32"))
        row = int(np.argmax(np.diff(three.counts.indptr)))
        genes, values = levels(three, row)
        slow = reference(state_of(folder), genes, values, longest + spare + 3, scaled=False, masked=False)
        np.testing.assert_allclose(encoder.encode_tokens(encoder.tokenize(three))[row], slow[0], atol=1e-5)


def test_cost_is_linear_in_the_number_of_genes() -> None:
    network = cellfm.build(Config(genes=50, width=16, layers=2, heads=2, feed=16, bins=8))
    work = []
    for length in (100, 200, 300):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(
                torch.zeros(1, length, dtype=torch.long), torch.ones(1, length), torch.ones(1, length, dtype=torch.bool)
            )
        work.append(counter.get_total_flops())
    assert work[2] - work[1] == work[1] - work[0] == work[0]


def test_published_sizes_have_their_number_of_parameters() -> None:
    for name, million in (("80M", 80), ("800M", 800)):
        with torch.device("meta"):
            count = sum(p.numel() for p in cellfm.build(cellfm.sizes()[name]).parameters())
        assert count / 1e6 == pytest.approx(million, rel=0.1)


# ---------------------------------------------------------------- tokens


def test_tokens_by_hand(folder: Path) -> None:
    counts = np.zeros((1, len(GENES)))
    counts[0, [2, 7]] = [1, 3]
    tokens = CellFM.from_dir(folder).tokenize(profiles(counts))
    assert tokens.ids[0].tolist() == [0, 0, 0, 3, 8]  # index + 1
    assert tokens.columns[0].tolist() == [-1, -1, -1, 2, 7]
    np.testing.assert_allclose(tokens.values[0], [0, 0, 0, np.log1p(2500), np.log1p(7500)], rtol=1e-6)


def test_the_highest_are_read_of_a_cell_with_too_many(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cellfm, "LONGEST", 3)
    counts = np.zeros((1, len(GENES)))
    counts[0, :6] = [2, 5, 2, 9, 2, 1]
    assert CellFM.from_dir(folder).tokenize(profiles(counts)).columns[0].tolist() == [-1, -1, -1, 0, 1, 3]


def test_layers_and_poolings(folder: Path, three: Profiles) -> None:
    def embedded(**options: object) -> np.ndarray:
        encoder = CellFM.from_dir(folder, Options(**options))
        return encoder.encode_tokens(encoder.tokenize(three))

    special = state_of(folder)["special"].numpy()
    np.testing.assert_array_equal(embedded(layer=0), np.tile(special[0], (3, 1)))
    np.testing.assert_array_equal(embedded(layer=-1), embedded(layer=4))
    assert np.abs(embedded(pooling="mean") - embedded()).max() > 1e-3
    for options, says in (
        ({"layer": 9}, "layer 9"),
        ({"pooling": "max"}, "'max'"),
        ({"variant": "publish"}, "published"),
    ):
        with pytest.raises(ConfigError, match=says):
            CellFM.from_dir(folder, Options(**options))


def test_embeds_cells_by_symbol(folder: Path, cells: Callable[..., ad.AnnData]) -> None:
    adata = cells(n=20, genes=25)
    adata.var_names = GENES[:25]
    encoder = CellFM.from_dir(folder)
    z = encoder.encode(adata)
    assert z.shape == (20, 16)
    assert np.isfinite(z).all()
    said = encoder.provenance()
    assert said["weights"] == "random"
    assert set(said["sha256"]) == {"CellFM_tiny_weight.ckpt", "genes.txt", "cellfm.json"}


# ---------------------------------------------------------------- the folder


def rewrite(folder: Path, change: Callable[[dict], dict]) -> None:
    path = next(folder.glob("*.ckpt"))
    mindspore.write(path, change(mindspore.read(path)))


def say(folder: Path, **settings: object) -> None:
    (folder / cellfm.SETTINGS).write_text(json.dumps({"heads": 2} | settings), encoding="utf-8")


def test_the_file_is_as_mindspore_writes_it(folder: Path) -> None:
    names = list(mindspore.read(next(folder.glob("*.ckpt")), skip=re.compile("$.")))
    assert {"encoder.0.post_norm1.gamma", "encoder.0.post_norm1.beta", "moment1.special", "global_step"} <= set(names)
    assert not [name for name in names if "norm" in name and name.endswith(("weight", "bias"))]


def test_other_forms_of_the_same_weights_give_the_same_embedding(folder: Path, three: Profiles, tmp_path: Path) -> None:
    encoder = CellFM.from_dir(folder)
    whole = encoder.encode_tokens(encoder.tokenize(three))

    def same(atol: float = 0.0) -> None:
        other = CellFM.from_dir(folder)
        np.testing.assert_allclose(other.encode_tokens(other.tokenize(three)), whole, atol=atol)

    rewrite(
        folder, lambda s: {f"net.{'emb.embedding_table' if k == 'gene_emb.weight' else k}": t for k, t in s.items()}
    )
    say(folder, rename={r"^net\.": "", r"^emb\.": "gene_emb."})
    same()
    rewrite(folder, lambda s: s | {"net.decoder.w": torch.ones(3), "net.special": s["net.special"][None]})
    say(folder, rename={r"^net\.": "", r"^emb\.": "gene_emb."}, ignore=[r"decoder\..*"])
    same()
    state = mindspore.torch_names(mindspore.read(next(folder.glob("*.ckpt"))))
    torch.save(state, next(folder.glob("*.ckpt")))
    same()
    (folder / "genes.txt").unlink()
    rows = "".join(f"{k},{gene},x\n" for k, gene in enumerate(GENES))
    (folder / "expand_gene_info.csv").write_text("number,Gene,note\n" + rows, encoding="utf-8")
    same()
    assert CellFM.from_dir(folder).targets == tuple(GENES)


def test_half_precision_and_missing_scalars_are_taken(folder: Path, three: Profiles) -> None:
    encoder = CellFM.from_dir(folder)
    whole = encoder.encode_tokens(encoder.tokenize(three))
    rewrite(folder, lambda s: {k: t.half() for k, t in s.items() if t.is_floating_point() and k != "value_enc.a"})
    with pytest.raises(StoreError, match=r"1 weights missing: value_enc\.a"):
        CellFM.from_dir(folder)
    say(folder, a=1.0)
    other = CellFM.from_dir(folder)
    assert next(other.network.parameters()).dtype == torch.float32
    np.testing.assert_allclose(other.encode_tokens(other.tokenize(three)), whole, atol=2e-2)


def test_a_gene_called_na_is_a_gene(folder: Path) -> None:
    names = ["NA", "nan", *GENES[2:]]
    (folder / "genes.txt").unlink()
    (folder / "expand_gene_info.csv").write_text("\n".join(["gene", *names]), encoding="utf-8")
    assert CellFM.from_dir(folder).targets == tuple(names)


def _text(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content, encoding="utf-8")


BAD = {
    "no checkpoint": (lambda f: next(f.glob("*.ckpt")).unlink(), "0 checkpoints"),
    "two": (lambda f: (f / "b.ckpt").write_bytes(b""), "2 checkpoints"),
    "no genes": (lambda f: (f / "genes.txt").unlink(), "none of genes.txt"),
    "short list": (_text("genes.txt", "\n".join(GENES[:-1])), "30 tokens for an embedding of 31 rows"),
    "double": (_text("genes.txt", "\n".join([*GENES[:-1], "GENE0"])), "symbols more than once: GENE0"),
    "gap": (_text("genes.txt", "\n".join(["", *GENES[1:]])), "1 rows without a symbol"),
    "empty list": (_text("genes.txt", ""), "no genes"),
    "heads": (_text("cellfm.json", '{"heads": 3}'), "3 heads for width 16"),
    "key": (_text("cellfm.json", '{"head": 2, "leak": "x"}'), "2 problems"),
    "pattern": (_text("cellfm.json", '{"rename": {"(": ""}}'), "no pattern"),
    "replacement": (_text("cellfm.json", r'{"rename": {"a": "\\9"}}'), "no pattern"),
    "list": (_text("cellfm.json", "[1]"), "cellfm.json"),
    "merged": (_text("cellfm.json", '{"heads": 2, "rename": {"[uv]_proj": "uv_proj"}}'), "two tensors that become"),
    "foreign": (lambda f: rewrite(f, lambda s: {"conv1.weight": torch.ones(3, 3)}), "rename in cellfm.json"),
    "left over": (lambda f: rewrite(f, lambda s: s | {"extra": torch.ones(1)}), "does not have: extra"),
    "shape": (lambda f: rewrite(f, lambda s: s | {"special": torch.ones(2, 16)}), r"special \(2, 16\) for \(3, 16\)"),
    "cut": (lambda f: _cut(next(f.glob("*.ckpt"))), "whole MindSpore checkpoint"),
    "bytes": (lambda f: (f / "genes.txt").write_bytes(b"\xff\xfe\x00"), "no readable text"),
}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_folder_is_said(folder: Path, case: str) -> None:
    change, says = BAD[case]
    change(folder)
    with pytest.raises(StoreError, match=says):
        CellFM.from_dir(folder)
