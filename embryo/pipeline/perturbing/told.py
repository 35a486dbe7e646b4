"""What a perturbation tells: its tier, its sentences, its end states, its page."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from embryo import measure, render
from embryo.core import field as laws
from embryo.core import schema
from embryo.core.edit import Edit
from embryo.core.field import Field
from embryo.core.trajectory import Trajectory
from embryo.fields.regulated import Bound, Regulated
from embryo.pipeline import results
from embryo.pipeline.perturbing import effects, wildtype
from embryo.pipeline.perturbing.bench import Bench
from embryo.pipeline.perturbing.support import WARN

if TYPE_CHECKING:
    from embryo.pipeline.perturbing.work import Found

_EASED = (
    "Production has a residual of place and time, which no edit reaches. What it stands in for this test does not see: "
    "a regulator that is missing may be hidden in it."
)


@dataclass(frozen=True)
class Tier:
    """On which evidence a result stands: a letter and a sentence."""

    letter: str
    sentence: str


def tier(law: Field, edits: Sequence[Edit]) -> Tier:
    """Return the tier of edits under a law: A where just these, in all cells and at all times, were learned from."""
    if {edit.words for edit in edits} in [set(label.split(" + ")) for label in laws.training_edits(law)]:
        return Tier("A", "Tier A: the law was fitted to embryos that carry this edit.")
    if laws.structured(law) is not None:
        text = "Tier B: gene regulation structured from wild type; the edit itself was never measured."
        return Tier("B", text)
    text = "Tier C: association only. The result may rank edits; it never claims the size of an effect."
    return Tier("C", text)


def on_wild_type(found: Sequence[Field]) -> list[str]:
    """Return what wild type says of laws of structure, one of every seed: nothing of those that have none."""
    known = [law for law in found if laws.structured(law) is not None]
    if not known:
        return []
    return [*_refuted([laws.refuted(law) for law in known]), *([_EASED] if any(map(laws.eased, known)) else [])]


def _refuted(found: Sequence[tuple[str, ...] | None]) -> list[str]:
    tested = [genes for genes in found if genes is not None]
    if not tested:
        return ["Not tested against wild type: that takes two embryos or more at every stage."]
    wrong = Counter(gene for genes in tested for gene in genes)
    if not wrong:
        return [
            "Wild type does not refute the law of any gene (two halves of the embryos, one stage "
            "ahead; of few embryos the test sees little)."
        ]
    named = [f"{gene} ({k} of {len(tested)} seeds)" if len(tested) > 1 else gene for gene, k in wrong.most_common()]
    few = ", ".join(named[:8]) + (f" and {len(named) - 8} more" if len(named) > 8 else "")
    return [
        f"FLAGGED: wild type refutes the fitted law of {few}: more than 5 % of their change from stage to stage is "
        "missed, and not by chance. A regulator may be missing; what passes through these genes is not claimed."
    ]


def on_motion(found: Sequence[Field], *, asked: bool, growth: str) -> list[str]:
    """Return whether genes move cells under laws with a circuit; nothing of others.

    Parameters
    ----------
    found
        The law of every seed.
    asked
        Whether the run's fit was asked for forces.
    growth
        How growth is carried: as mass or as particles.
    """
    known = [law.forces for law in found if isinstance(law, Regulated | Bound)]
    still = sum(forces is None for forces in known)
    out = []
    if still and asked:
        out.append(f"fit.forces: embryos left out refute forces in {still} of {len(known)} laws, which have none.")
    if known and still == len(known):
        out.append(
            "No gene moves a cell: places change as those of wild type do. What the edit does to form is not claimed."
        )
    elif known:
        out.append("Cells are moved by forces that read genes, fitted to how whole wild-type bodies change.")
        if growth == "mass":
            out.append(
                "Growth is carried as mass here, not by division: effects on form come out too small (by about half, "
                "in the synthetic embryo)."
            )
    return out


def on_time(times_h: Sequence[float], trained_h: tuple[float, float]) -> list[str]:
    """Return whether a roll-out goes where no training cell was in time."""
    first, last = trained_h
    if times_h[0] > first - schema.SAME_TIME_H and times_h[-1] < last + schema.SAME_TIME_H:
        return []
    return [
        f"EXTRAPOLATES: rolled from {times_h[0]:g} to {times_h[-1]:g} h, fitted to {first:g} to {last:g} h. No "
        "training cell says what the law is outside."
    ]


def on_support(reach: pd.DataFrame, abstain_above: float) -> str:
    """Return the sentence about the support."""
    edited, control = (effects.share(reach, arm) for arm in ("edited", "control"))
    by_gene = reach[reach["kind"] == "gene"].pivot_table(index="name", columns="arm", values="share")
    more = (by_gene["edited"] - by_gene["control"]).sort_values(ascending=False)
    off = more.index[more > WARN]
    genes = (
        f" Genes further outside their training range than in the control: {', '.join(off[:8])}." if len(off) else ""
    )
    numbers = f"{edited:.0%} of the edited states lie beyond the training states ({control:.0%} of the control's)."
    if edited > abstain_above:
        return f"ABSTAINS: {numbers} Above {abstain_above:.0%} the numbers are shown but claimed by nobody.{genes}"
    if edited > control + WARN:
        return f"WARNING: {numbers}{genes}"
    return f"Supported: {numbers}{genes}"


def on_intervals(bench: Bench) -> list[str]:
    """Return what the intervals hold: how fits differ, or how embryos do."""
    n = len(bench.seeds)
    if n < 2:
        return ["One seed: no intervals."]
    if bench.run.config.fit.bootstrap:
        return [
            f"Intervals: {n} laws, all but the first fitted to embryos drawn with replacement (bootstrap). They hold "
            "how embryos differ: more seeds make their width surer and not smaller."
        ]
    return [f"Intervals: {n} fits to the same embryos. They do not hold how embryos differ (fit.bootstrap=true does)."]


def on_effects(effect: pd.DataFrame, split: pd.DataFrame, bench: Bench, direct: Sequence[Trajectory]) -> list[str]:
    """Return what changed beyond what wild types differ by, and how much came through neighbours."""
    last = effect[(effect["role"] == "difference") & (effect["time_h"] == effect["time_h"].max())]
    beyond = last[last["beyond_repeats"]]
    top = beyond[beyond["metric"].str.startswith("fraction")].sort_values("value", key=np.abs, ascending=False)[:4]
    listed = "".join(f"; {m} {v:+.3g}" for m, v in zip(top["metric"], top["value"], strict=True))
    out = [f"{len(beyond)} of {len(last)} quantities differ by more than wild-type repeats do{listed}."]
    if laws.alone(bench.laws[0]):
        out.append("The law reads each cell alone: all of the effect is the cells' own.")
    elif not direct:
        out.append("The law reads neighbours but cannot hold them: the split is by cells only.")
    else:
        rows = split[split["metric"] == "panel_change"].set_index("group")["value"]
        whole, own = rows.get("all cells", np.nan), rows.get("all cells, neighbours as in the control", np.nan)
        out.append(f"With neighbours held as in the control the panel changes by {own:.3g} of {whole:.3g} log1p.")
    if not bench.posed:
        out.append("Embryos lie as they fell: left is not told from right, only the hand of three fates (laterality).")
    elif bench.state.x.shape[1] == 3:
        out.append(
            "side[FATE] is read along the third, shortest axis of the reference embryo: the run does not know whether "
            "that leads from left to right, nor which end is left."
        )
    if bench.measured:
        out.append("The measured wild type is later in the file: the effect is also added to it (differences).")
    return out


def end(trajectory: Trajectory, fate: measure.FateClassifier, found: "Found") -> AnnData:
    """Return the living cells of the last time: genes, fates, weights, positions, embedding."""
    state = trajectory.at(-1)
    alive = state.alive
    z, g, x, log_mass = (part.detach().cpu().double().numpy() for part in state[alive].parts())
    names = np.asarray(trajectory.cells, dtype=object)[alive.cpu().numpy()]
    obs = pd.DataFrame(index=pd.Index(names, dtype=str))
    obs["fate"] = pd.Categorical(fate.predict(z), categories=fate.fates)
    obs[schema.TERMINAL_STATES] = obs["fate"]
    obs["mass"] = np.exp(log_mass)
    obs[schema.TIME] = float(trajectory.times_h[-1])
    edited = bool(trajectory.provenance.get("edits"))
    obs[schema.PERTURBATION] = found.label if edited else ""
    panel = pd.DataFrame(index=pd.Index(trajectory.panel, dtype=str))
    adata = AnnData(g, obs=obs, var=panel, obsm={schema.EMBED: z, schema.FATE_PROBABILITIES: fate.proba(z)})
    if x.shape[1]:
        adata.obsm[schema.SPATIAL], adata.obsm[schema.ALIGNED] = x, x.copy()
    adata.uns[schema.META] = {
        "time_unit": "h", "space_unit": "um", "frame": trajectory.frame.name, "expression": "log1p",
        "tier": found.tier, "abstains": found.abstains,
    }  # fmt: skip
    return adata


_CAPTIONS = {
    "embryos.png": "The end of the roll-out of the first seed: control beside edit, with the control's outline.",
    "curves.png": "Control and edit over time. Band: by how much two measured wild-type embryos differ (95 %).",
}


def _anyway(last: pd.DataFrame) -> pd.DataFrame:
    """Return the effect on fates, states and form beside its floors."""
    chosen = last["metric"].isin(["bray_curtis[fates]", "energy_distance[z]", "chamfer_um", "form_mismatch"])
    rows = last[chosen & last["role"].isin(["difference", "floor"])]
    return rows.drop(columns=["beyond_repeats"]).sort_values("metric", kind="stable", ignore_index=True)


def page(bench: Bench, edits: Sequence[Edit], found: "Found", pairs: effects.Arms) -> None:
    """Draw the pictures and write ``report.html``."""
    folder, (control, edited) = found.folder, pairs[0]
    apart = [effects.MEASURED, effects.ADDED, *wildtype.MODELS]
    places = (
        found.table["metric"].str.partition("[")[0].isin(["edge", "middle_um", "side"])
    )  # many: they stand in the tables
    rolled = found.table[~found.table["model"].isin(apart) & ~places]
    render.curves(results.curve_table(rolled), folder / "curves.png")
    shots = ["curves.png"]
    if control.x.shape[2] >= 2:
        colour, what, unit = results.colouring(bench.run, control, bench.fate)
        moments = render.Moments({"control": control, found.label: edited}, colour, name=what, unit=unit)
        render.picture(list(moments[-1]), folder / "embryos.png")
        shots.insert(0, "embryos.png")
    beside = found.table["model"].isin(wildtype.MODELS)
    yard = found.table[beside].drop(columns=["board", "tier", "beyond_repeats", "time_h"])
    effect = found.table[~beside]
    last = effect[effect["time_h"] == effect["time_h"].max()].drop(columns=["time_h", "board", "tier"])
    states = found.support[found.support["kind"] == "states"].drop(columns=["kind", "name"])
    tables = [
        render.Table("What the edit changes, at the end", last[last["role"] != "floor"].reset_index(drop=True)),
        render.Table("What would be seen anyway, at the end", _anyway(last)),
        render.Table("The control beside measured wild type", yard.reset_index(drop=True)),
        render.Table("When it first differs", found.divergence.dropna(subset=["any_h"]).reset_index(drop=True)),
        render.Table("In which cells", found.autonomy),
        render.Table("What the encoder answers, beside what the law makes of the edit", found.encoder),
        render.Table("States beyond the training data", states.reset_index(drop=True)),
    ]
    verdict = [f"{', '.join(e.words for e in edits)}; {bench.name}, {len(bench.seeds)} seeds.", *found.sentences]
    content = render.Report(
        title=f"embryo perturb: {found.label}",
        verdict=verdict,
        tables=tables,
        pictures=[render.Shot(folder / name, _CAPTIONS[name]) for name in shots],
        notes=[f"Read-out: {bench.fate}.", *render.notes()],
        provenance={**bench.run.manifest.get("provenance", {}), "edits": [e.to_json() for e in edits]},
    )
    render.report(content, folder / "report.html")
