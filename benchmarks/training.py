"""Steps per second of fitting a flow, and the distance to a held-out day, beside torchcfm.

    pip install --no-deps torchcfm      # its dependencies would replace torch
    python benchmarks/training.py --out docs/speed-of-training.md

One process, one network (three layers of 64 SELU, time as an input), one optimiser (AdamW), the same number of points
per step (`--batch` for every interval) and of steps, on the same days: each interior day is held out in turn, and
coordinates are standardised on the others. torchcfm runs as its examples do: a batch of each interval at every step,
exact transport of the batch in OT-CFM, none in I-CFM, sigma 0.1. Ours couples each interval once (`coupled`, seconds,
is not in the rate), its paths have the same width and no pull, and the rest are the package's defaults. W1 is the exact
Wasserstein distance between the held-out day and the day before it, rolled forward by 100 Euler steps, weighted by mass
in ours; mean over days and seeds. Rates are of this one thread's own time (the machine is shared), the best of
`--repeats` runs that alternate.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import ot
import pandas as pd
import torch
from torch import nn

from embryo import couple, datasets, fit, simulate
from embryo.core import provenance, schema, store
from embryo.core.field import Field
from embryo.core.state import State, Velocity
from embryo.fields import FlowNetwork

WIDTH, SIGMA, EULER = 64, 0.1, 100
BOARDS = {"embryoid-body": 5, "simulation-no-interact": 2}
OPTIONS = {
    "exact": couple.Transport(solver="exact"),
    "unbalanced": couple.Transport(solver="unbalanced"),
}


def series(name: str, dims: int, held: int | None) -> ad.AnnData:
    """Return the days of a dataset, numbered, standardised on those that are not held out."""
    whole = datasets.load(name)
    days = np.unique(whole.obs[schema.TIME], return_inverse=True)[1]
    z = np.asarray(whole.obsm["X_pca"], float)[:, :dims]
    seen = z[days != held]
    z = (z - seen.mean(0)) / seen.std(0)
    adata = ad.AnnData(obs=pd.DataFrame({schema.TIME: days.astype(float)}, index=whole.obs_names))
    adata.obsm[schema.EMBED], adata.obsm[schema.PANEL] = z, np.zeros((len(z), 0))
    return adata


class Theirs(nn.Module):
    """Their network behind our protocol, to be rolled out by the same integrator."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        from torchcfm.models.models import MLP  # noqa: PLC0415  absent where only our side is measured

        self.net = MLP(dims, w=WIDTH, time_varying=True)

    def forward(self, t: torch.Tensor, state: State) -> Velocity:
        """Return the velocity of z, without growth."""
        dz = self.net(torch.cat([state.z, t.expand(len(state), 1)], dim=1))
        return Velocity(dz, torch.zeros_like(state.g), torch.zeros_like(state.x), torch.zeros_like(state.log_mass))


def torchcfm(adata: ad.AnnData, steps: int, batch: int, seed: int, *, coupled: bool) -> tuple[Theirs, float, float]:
    """Fit as the examples of torchcfm do; return the field, seconds of coupling apart, seconds of the loop."""
    from torchcfm import conditional_flow_matching as cfm  # noqa: PLC0415  as above

    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  theirs draws from the global generator
    matcher = (cfm.ExactOptimalTransportConditionalFlowMatcher if coupled else cfm.ConditionalFlowMatcher)(sigma=SIGMA)
    t = adata.obs[schema.TIME].to_numpy()
    days = [(u, torch.as_tensor(adata.obsm[schema.EMBED][t == u], dtype=torch.float32)) for u in np.unique(t)]
    field = Theirs(days[0][1].shape[1])
    optimiser = torch.optim.AdamW(field.parameters(), lr=1e-3, weight_decay=1e-5)
    begin = time.process_time()
    for _ in range(steps):
        points, rates = [], []
        for (t0, a), (t1, b) in itertools.pairwise(days):
            ends = (day[torch.randint(len(day), (batch,))] for day in (a, b))
            s, x, v = matcher.sample_location_and_conditional_flow(*ends)
            points.append(torch.cat([x, (t0 + s * (t1 - t0))[:, None]], dim=1))
            rates.append(v / (t1 - t0))
        loss = (field.net(torch.cat(points)) - torch.cat(rates)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return field, 0.0, time.process_time() - begin


def ours(adata: ad.AnnData, steps: int, batch: int, seed: int, *, solver: str) -> tuple[FlowNetwork, float, float]:
    """Couple and fit; return the field, seconds of coupling, seconds of the loop."""
    begin = time.process_time()
    grow = len(np.unique(adata.obs[schema.TIME].value_counts())) > 1
    options = couple.Transport(**{**vars(OPTIONS[solver]), "counts_grow": grow})
    data = fit.pairs(adata, couple.series(adata, method="transport", transport=options))
    middle = time.process_time()
    intervals = len(np.unique(data.t0_h))
    training = fit.Training(steps=steps, batch=batch * intervals, width_of_paths=SIGMA, pull=0.0, seed=seed)
    torch.manual_seed(seed)
    network = FlowNetwork(dims=data.states.z.shape[1], genes=0, space=0, width=WIDTH, frequencies=0)
    network.trunk = nn.Sequential(*(nn.SELU() if isinstance(part, nn.SiLU) else part for part in network.trunk))
    field = fit.regress(data, training, network=network)
    return field, middle - begin, time.process_time() - middle


METHODS: dict[str, Callable[..., tuple[Any, float, float]]] = {
    "torchcfm OT-CFM": lambda *given: torchcfm(*given, coupled=True),
    "torchcfm I-CFM": lambda *given: torchcfm(*given, coupled=False),
    "embryo, exact": lambda *given: ours(*given, solver="exact"),
    "embryo, unbalanced": lambda *given: ours(*given, solver="unbalanced"),
}


def distance(field: Field, adata: ad.AnnData, held: int) -> float:
    """Return W1 between the held-out day and the one before, rolled forward."""
    t = adata.obs[schema.TIME].to_numpy()
    before, truth = fit.states(adata[t == held - 1]), np.ascontiguousarray(adata.obsm[schema.EMBED][t == held])
    run = simulate.forward(field, before, [held - 1.0, float(held)], step_h=1 / EULER, method="euler")
    end, mass = run.z[-1].double().numpy(), run.log_mass[-1].double().exp().numpy()
    even = np.full(len(truth), 1 / len(truth))
    return float(ot.emd2(mass / mass.sum(), even, ot.dist(end, truth, metric="euclidean"), numItermax=10**7))


def rows(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield one row per dataset and method."""
    for name, dims in BOARDS.items():
        whole = series(name, dims, None)
        last = int(whole.obs[schema.TIME].max())
        speed = dict.fromkeys(METHODS, (0.0, 0.0))
        for _ in range(given.repeats):
            for method, run in METHODS.items():
                _, coupled, seconds = run(whole, given.timed, given.batch, 0)
                speed[method] = max(speed[method], (given.timed / seconds, coupled))
        for method, run in METHODS.items():
            found = []
            for held in range(1, last):
                adata = series(name, dims, held)
                train = adata[adata.obs[schema.TIME] != held].copy()
                found += [distance(run(train, given.steps, given.batch, s)[0], adata, held) for s in range(given.seeds)]
            row = {
                "data": f"{name}, {dims}D", "method": method, "steps/s": speed[method][0],
                "of OT-CFM": speed[method][0] / speed["torchcfm OT-CFM"][0], "coupled, s": speed[method][1],
                **{f"W1, day {k + 1}": float(v) for k, v in enumerate(np.reshape(found, (last - 1, -1)).mean(1))},
                "W1": float(np.mean(found)),
                "sd of seeds": float(np.reshape(found, (last - 1, -1)).mean(0).std(ddof=min(1, given.seeds - 1))),
            }  # fmt: skip
            print(row, file=sys.stderr)
            yield row


def page(table: pd.DataFrame, given: argparse.Namespace) -> str:
    """Return the table as markdown, with the commit and the machine it was made on."""
    made = provenance.provenance(0, {}, {})
    cut = table.map(lambda v: f"{v:.3g}" if isinstance(v, float) else v)
    head = "| " + " | ".join(cut.columns) + " |\n|" + "---|" * len(cut.columns)
    body = "\n".join("| " + " | ".join(map(str, row)) + " |" for row in cut.to_numpy())
    said = __doc__.split("\n\n", 2)[2].strip() if __doc__ else ""
    return (
        f"# Speed of training\n\nCommit {made['commit']}; {made['platform']}, CPU, {torch.get_num_threads()} threads; "
        f"torch {made['packages'].get('torch')}; {given.batch} points per interval and step, {given.steps} steps, "
        f"{given.seeds} seeds.\n\n{said}\n\n{head}\n{body}\n"
    )


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="markdown page to write")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--timed", type=int, default=256, help="steps of each run that is timed")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    ours(series("emt", 2, None), 1, 8, 0, solver="exact")  # what the first step of a process imports is nobody's time
    text = page(pd.DataFrame(rows(given)), given)
    if given.out is None:
        print(text)
        return
    with store.atomic(given.out) as partial:
        partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
