"""What the report of a run says."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from anndata import AnnData

from embryo import datasets, render
from embryo.core import schema, store
from embryo.pipeline import cells, grids
from embryo.pipeline.folder import RunFolder
from embryo.pipeline.results import TABLES, label

_NOTES = {
    "positions": (
        "Distance between predicted and true position, mean over cells; value and interval over held-out embryos, "
        "seed_sd over seeds of the fit. A cell that has divided is compared by the mean of its descendants. The repeat "
        "is how far the same named cell lies in another wild-type embryo after alignment."
    ),
    "populations": (
        "Energy distances are unbiased: 0 is a perfect prediction, single values may fall below. The ceiling is one "
        "half of the true cells against the other."
    ),
    "edits": (
        "The measured embryos that carry the edit were never used in a fit. Effect recovery: 1 is perfect, 0 is no "
        "change of a typical wild type, negative is worse than saying nothing; it is not capped. All predictions meet "
        "the same few edited embryos: where those score no better against each other, no model can be told apart."
    ),
    "difference": (
        "The first held-out embryo; edited minus control with the same seed, start, grid and batch, intervals over "
        "seeds of the fit. Repeat rows are what measured wild-type embryos, or other seeds, differ by anyway; an "
        "effect inside them is not an effect."
    ),
}
_ASSEMBLED = (
    "Multi-gene vectors are assembled across embryos by cell name: these genes were never measured together in one "
    "embryo."
)
_TIER = (
    "Tier C: the field is an unstructured network fitted to wild type alone. It may suggest a direction; it does not "
    "claim the size of an effect."
)


def report(run: RunFolder, adata: AnnData) -> tuple[list[str], str]:
    """Write ``report.html``."""
    made = set(run.stages["measure"]["outputs"])
    paths = {name: f"tables/{name}.csv" for name in TABLES}
    tables = {name: store.read_table(run.path / path) for name, path in paths.items() if path in made}
    sentences = store.read_json(run.path / "tables/sentences.json")
    pictures = [o for o in run.stages["render"]["outputs"] if o.endswith(".png")]
    films = [o for o in run.stages["render"]["outputs"] if o.endswith((".mp4", ".gif"))]
    content = render.Report(
        title=f"embryo run: {run.config.name}",
        verdict=verdict(sentences["sentences"]),
        done=[render.Step(name, s["summary"], s["seconds"]) for name, s in run.stages.items() if name != "report"],
        tables=[render.Table(TABLES[name], shown(name, table), _NOTES[name]) for name, table in tables.items()],
        pictures=[render.Shot(run.path / o, CAPTIONS[o.rpartition("/")[2]]) for o in sorted(pictures, reverse=True)],
        films=[render.Shot(run.path / o, f"Control beside {label(run)}, same camera, same seed.") for o in films],
        cards=card(run, adata),
        notes=[_TIER, f"Read-out, training embryos left out in turn: {sentences['read_out']}.", *render.notes()],
        provenance=run.manifest["provenance"],
    )
    render.report(content, run.path / "report.html")
    return ["report.html"], "report.html"


CAPTIONS = {
    "embryos.png": (
        "The end of the roll-out: the model's control beside its edited embryo, with the control's outline. A second "
        "row, where such embryos were measured, is the held-out wild type beside one that truly carries the edit."
    ),
    "curves.png": (
        "Control and edit over time. Band around the control: by how much two measured wild-type embryos differ (95 %)."
    ),
}


def verdict(sentences: dict[str, Sequence[str]]) -> list[str]:
    """Return what the result is: all comparisons with floors counted; the latest of each, and all positions, said."""
    flat = [s for part in sentences.values() for s in part]
    if not flat:
        return ["Nothing was held out, so nothing here is validated."]
    better, worse = (sum(f": {word} than" in s for s in flat) for word in ("better", "worse"))
    head = (
        f"Against the best floor our model is better on {better} of {len(flat)} comparisons, worse on {worse}, and not "
        f"distinguishable on {len(flat) - better - worse} (intervals at 95 %, not corrected for their number)."
    )
    if not better:
        head = f"Our model does not beat the best floor anywhere. {head}"
    rest = {board: part for board, part in sentences.items() if board != "positions"}
    latest = {(board, s.partition(",")[0]): s for board, part in rest.items() for s in part}
    return [head, *sentences.get("positions", ()), *latest.values()]


def shown(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of a table that a person reads; the csv beside the report has all."""
    if name == "difference":
        last = table["time_h"].max()
        table = table[(table["time_h"] == last) & table["role"].isin(["control", "edited", "difference", "repeat"])]
    drop = [c for c in ("board", "time_h") if c in table and (c == "time_h" or len(set(table[c])) <= 1)]
    return table.drop(columns=drop).reset_index(drop=True)


def card(run: RunFolder, adata: AnnData) -> list[render.Card]:
    """Return the data card: what the registry says, and what the data themselves say."""
    meta: dict[str, Any] = adata.uns.get(schema.META, {})
    parts = {part: cells.embryos(adata, part) for part in (cells.TRAIN, cells.HELD_OUT, cells.EDITED)}
    lines = [f"{adata.n_obs:,} cells at {adata.obs[schema.TIME].nunique()} times, {int(adata.uns['n_genes']):,} genes."]
    lines += [
        f"{part}: {len(names)} embryos ({', '.join(names[:8])}{', ...' if len(names) > 8 else ''})."
        for part, names in parts.items()
        if names
    ]
    if meta.get("assembled"):
        lines.append(_ASSEMBLED)
    cards = [render.Card("This run's cells", "\n\n".join(lines))]
    name = run.config.read.dataset
    if name is not None and name in datasets.names():
        cards.append(render.Card(name, datasets.card(name)))
    return cards


def markdown(run: RunFolder) -> str:
    """Return the tables of a run against truth as markdown, with the commit that they were made at."""
    made = run.manifest["provenance"]
    lines = [f"## {run.config.name}", "", f"Commit {made['commit']}, {made['made'][:10]}, seed {made['seed']}.", ""]
    lines += [f"- {s}" for s in verdict(store.read_json(run.path / "tables/sentences.json")["sentences"])]
    for name in ("positions", "populations", "edits"):
        path = run.path / f"tables/{name}.csv"
        if path.is_file():
            lines += [
                "",
                f"### {TABLES[name]}",
                "",
                _NOTES[name],
                "",
                grids.markdown(shown(name, store.read_table(path))),
            ]
    return "\n".join(lines) + "\n"


def text(run: RunFolder) -> str:
    """Return what `embryo show` prints: stages, results and where they lie."""
    lines = [f"run {run.config.name!r}", ""]
    for name, stage in run.stages.items():
        lines.append(f"  {name:<12} {stage['seconds']:>7.1f} s  {stage['summary']}")
    missing = [s for s in STAGES if not any(done.split()[0] == s for done in run.stages)]
    if missing:
        lines += ["", f"not done: {', '.join(missing)} (the same embryo run goes on there)"]
    file = run.path / "tables/sentences.json"
    if "measure" in run.stages and file.is_file():
        lines += ["", *(f"  {s}" for s in verdict(store.read_json(file)["sentences"]))]
    made = run.manifest.get("provenance", {})
    lines += ["", f"seed {made.get('seed')}, made {made.get('made')}, embryo {made.get('packages', {}).get('embryo')}"]
    if (run.path / "report.html").is_file():
        lines.append(f"open {run.path / 'report.html'}")
    return "\n".join(lines)


STAGES = ("read", "embed", "reconstruct", "couple", "fit", "simulate", "perturb", "measure", "render", "report")
