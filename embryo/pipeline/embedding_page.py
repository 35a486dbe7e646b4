"""What the page of an evaluation of embeddings says: verdict first, floors in every table, random called random."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from embryo import render
from embryo.core.table import LEVEL
from embryo.pipeline import grids

HEAD = """# Embeddings, judged sceptically

Made by `embryo evaluate embedding CONFIG` for the configs of `configs/evaluate`, then `embryo evaluate page RUN ...`.
No published weights can be fetched where this page is made, so that no row is of a pretrained model: rows called
"architecture, random weights" are networks that have learned nothing. They are tiny (16 to 64 wide); a random network
as large as a published one may tell more cells apart, so that these rows are no measure of an architecture. With a
folder of published weights in the config its row stands here too, and its random control has the same size. TEDDY and
scPRINT-2 run in an interpreter of their own and need the user's; they have no row. scVI is an optional floor
(`fitted: [scvi]`).
"""
_HOW = (
    "Every score belongs to a group that was held out of all fits: probes, scalers, PCA and HVG see training "
    f"groups. Value: mean over groups and seeds; in brackets its {LEVEL:.0%} interval for new groups and new seeds "
    "(variances of the means over groups and over seeds, added; Student's t with Satterthwaite's degrees of "
    "freedom), so that it may reach above what the score can be; sd: over seeds. Fixed beforehand: kNN as stated "
    "in the config (15); k-means with as many clusters as labels; penalties of the linear probes chosen by groups "
    "left out of the training cells. Batch mixing compares cells of one type and one condition only, and is full "
    "marks for an embedding that says nothing: read it beside the probes."
)
_ORDER = ["floor", "random", "ours", "ceiling"]
_GAINS = (
    "Gain over the best floor (chosen on the same scores, which favours the floor), and over PCA where that is "
    "another; positive is better. Not corrected for the number of comparisons."
)

_ROWS = "What each row under test is, what it was trained on, and whether that holds what the board protects."


@dataclass(frozen=True)
class Model:
    """A row under test: its name, dimensions, and provenance."""

    name: str
    dims: int
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """What was found on one board.

    Parameters
    ----------
    name, facts, digest
        Of the board; cells, genes and organism; digest of the cells.
    table, sentences
        Result of `embryo.evaluate.embedding`.
    notes
        How the cells came about.
    models
        Rows under test.
    unread
        Why which models cannot read these cells.
    """

    name: str
    facts: tuple[int, int, str]
    digest: str
    table: pd.DataFrame
    sentences: tuple[str, ...]
    notes: tuple[str, ...]
    models: tuple[Model, ...]
    unread: tuple[str, ...]

    @property
    def summary(self) -> str:
        """Return one line about the board."""
        return f"{self.facts[0]:,} cells, {self.facts[1]:,} genes; {len(self.models)} rows under test beside the floors"


def verdict(found: Found) -> list[str]:
    """Return for each row under test on how many scores it beats the best floor, and PCA; then what is not measured."""
    gains = found.table[found.table["role"] == "difference"]
    out = []
    for model in found.models:
        own = gains[gains["model"].str.startswith(f"{model.name} minus ")].drop_duplicates("metric")
        counts = {head: int(own["verdict"].str.startswith(head).sum()) for head in ("better", "worse", "not better")}
        out.append(
            f"{model.name}: {_against_pca(model.name, gains)}. Of {len(own)} scores, better than the best floor on "
            f"{counts['better']}, worse on {counts['worse']}, not better on {counts['not better']}."
        )
    spoken = tuple(f"{metric}: " for metric in found.table["metric"].unique())
    asked = [f"{s}." for s in found.sentences if not s.startswith(spoken)]
    return [*out, *asked, *found.unread]


def _against_pca(name: str, gains: pd.DataFrame) -> str:
    """Say where a row is better than PCA; batch mixing apart, as an embedding that says nothing is best at that."""
    own = gains[gains["model"].str.startswith(f"{name} minus PCA (")]
    better = own["verdict"].str.startswith("better")
    mixing = own["metric"].str.startswith("batch mixing")
    telling, rest = own.loc[better & ~mixing, "metric"], int((better & mixing).sum())
    n = int((~mixing).sum())
    words = f"better than PCA on {len(telling)} of {n} scores that tell cells apart ({'; '.join(telling)})"
    words = words if len(telling) else f"not better than PCA on any of the {n} scores that tell cells apart"
    return f"{words}; better than PCA on {rest} of {int(mixing.sum())} of batch mixing" if mixing.any() else words


def markdown(name: str, found: Sequence[Found], made: Mapping[str, Any]) -> str:
    """Return the page of one evaluation."""
    lines = [f"## {name}", "", f"Commit {made['commit']}, {str(made['made'])[:10]}, seed {made['seed']}.", "", _HOW]
    for one in found:
        cells, genes, organism = one.facts
        lines += ["", f"### {one.name}", "", f"{cells:,} cells, {genes:,} genes, {organism}; digest {one.digest}."]
        lines += ["", *(f"- {note}" for note in one.notes), "", "What was found:", ""]
        lines += [f"- {sentence}" for sentence in verdict(one)]
        lines += ["", f"Scores, {one.table['split'].iloc[0]}:", "", grids.markdown(scores(one))]
        if one.models:
            lines += [
                "",
                _GAINS,
                "",
                grids.markdown(gains(one)),
                "",
                "Rows under test:",
                "",
                grids.markdown(rows_under_test(one)),
            ]
    return "\n".join(lines) + "\n"


def html(name: str, found: Sequence[Found], made: Mapping[str, Any], path: Path) -> None:
    """Write the page of one evaluation as one HTML file."""
    tables = []
    for one in found:
        tables.append(render.Table(f"{one.name}: scores", scores(one), _HOW))
        if one.models:
            tables.append(render.Table(f"{one.name}: gains", gains(one), _GAINS))
            tables.append(render.Table(f"{one.name}: rows under test", rows_under_test(one), _ROWS))
    content = render.Report(
        title=f"Embeddings: {name}",
        verdict=[f"{one.name}: {sentence}" for one in found for sentence in verdict(one)],
        tables=tables,
        cards=[render.Card(one.name, "\n\n".join([one.summary, *one.notes])) for one in found],
        provenance=dict(made),
    )
    render.report(content, path)


def scores(found: Found) -> pd.DataFrame:
    """Return models x metrics: value, interval and, where there are several seeds, their spread."""
    kept = found.table[found.table["role"] != "difference"]
    kept = kept.sort_values("role", key=lambda role: role.map(_ORDER.index), kind="stable")
    metrics = list(dict.fromkeys(_head(row) for _, row in found.table.iterrows()))
    return grids.wide(kept, ["model", "role"], _head, _score)[["model", "role", *metrics]]


def gains(found: Found) -> pd.DataFrame:
    """Return differences x metrics: gain, interval and verdict."""
    return grids.wide(found.table[found.table["role"] == "difference"], ["model"], _head, _gain)


def _head(row: pd.Series) -> str:
    said = [] if row["unit"] == "1" else [str(row["unit"])]
    said += ["lower is better"] if row["better"] == "lower" else []
    return f"{row['metric']} ({', '.join(said)})" if said else str(row["metric"])


def _score(row: pd.Series) -> str:
    spread = "" if pd.isna(row["seed_sd"]) else f", sd {row['seed_sd']:.2g}"
    return f"{row['value']:.3f} [{row['low']:.2f}, {row['high']:.2f}]{spread}"


def _gain(row: pd.Series) -> str:
    head = str(row["verdict"]).partition(" than")[0]
    return f"{row['value']:+.3f} [{row['low']:.2f}, {row['high']:.2f}] {head}"


def rows_under_test(found: Found) -> pd.DataFrame:
    """Return what each row under test is: dimensions, weights, layer, precision, genes read, corpus and leaks."""
    rows = []
    for model in found.models:
        p = model.provenance
        read = p.get("coverage", {})
        sums = "".join(f"; {name} {digest[:12]}" for name, digest in sorted(p.get("sha256", {}).items()))
        weights = p.get("control") or f"pretrained{sums}"
        weights += f"; of {p['shuffled_from']}{sums}" if "shuffled_from" in p else ""
        kind = {key: str(p.get(key, "")) for key in ("layer", "pooling", "dtype")}
        genes = f"{read.get('n_mapped_data', '')} of {read.get('n_data', '')}"
        seen = {"trained on": str(p.get("corpus", "")), "leaks": str(p.get("leaks", ""))}
        rows.append({"model": model.name, "dims": model.dims, "weights": weights, **kind, "genes read": genes, **seen})
    return pd.DataFrame(rows)
