"""The stages of a run and what each depends on: from these come the fingerprints by which a stage is known as done."""

from typing import Any

from embryo.config import Config
from embryo.pipeline import cells
from embryo.pipeline.folder import RunFolder, contents, fingerprint


def stages(run: RunFolder, *, as_used: bool = False) -> list[tuple[str, Any]]:
    """Return (stage, config that it depends on) in order; each also depends on all before it.

    Parameters
    ----------
    run
        The run.
    as_used
        Take files as they were when the run last read them, without looking at them.
    """
    c = run.config
    edits = c.perturb.model_dump(mode="json")
    synthetic = edits["edits"] if c.read.dataset == "synthetic" else None
    where = c.read.path and c.read.path.name  # a file is known by its contents, wherever it lies
    read = {**c.read.model_dump(mode="json"), "path": where}
    embed = {**c.embed.model_dump(mode="json", exclude={"shrink"}), "weights": c.embed.weights and c.embed.weights.name}
    used = {"read": c.read.path, "embed": c.embed.weights}
    digest = {
        name: run.source(name) if as_used or (path and not path.exists()) else contents(path)
        for name, path in used.items()
    }
    return [
        ("read", [read, c.split.model_dump(mode="json"), c.seed, digest["read"], synthetic]),
        (
            "embed",
            [embed, digest["embed"], [e["gene"] for e in edits["edits"]], *(["shrunk"] if cells.shrinks(c) else [])],
        ),
        ("reconstruct", None),
        ("couple", c.couple.model_dump()),
        *((name, c.fit.model_dump()) for name in fits(c)),
        ("simulate", [c.simulate.model_dump(), c.measure.horizons_h]),
        ("perturb", edits),
        ("measure", c.measure.model_dump()),
        ("render", c.render.model_dump()),
        ("report", c.name),
    ]


def fits(config: Config) -> list[str]:
    """Return the names of the stages that fit, one for each seed."""
    return [f"fit seed {seed}" for seed in range(config.seed, config.seed + config.seeds)]


def fingerprints(run: RunFolder, *, as_used: bool = False) -> dict[str, str]:
    """Return the fingerprint of every stage, in order; see `stages`."""
    before, out = "", {}
    for stage, depends_on in stages(run, as_used=as_used):
        before = out[stage] = fingerprint(before, stage, depends_on)
    return out
