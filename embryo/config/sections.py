"""Every knob on one page: one model per stage, YAML in and out. The defaults are the demo.

A config file holds departures from these defaults only; the resolved config is written into every run folder.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from embryo.core.edit import Edit


class Section(BaseModel):
    """Frozen, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Read(Section):
    """Where the cells come from: a registered dataset, the synthetic embryo, or a file."""

    dataset: str | None = Field("synthetic", description="a name of `embryo data list`, or synthetic")
    path: Path | None = Field(None, description="h5ad, zarr, SpatialData zarr or tracks csv, instead of a dataset")
    params: dict[str, Any] = Field(default_factory=dict, description="passed to the dataset's converter")
    keys: dict[str, str] = Field(default_factory=dict, description="slot names of a file: time, space, embryo, ...")
    time_unit: str | None = Field(None, description="h, min, day, ...; needed where the file does not say")
    space_unit: str | None = Field(None, description="um, mm, nm, px")
    every_h: float | None = Field(None, gt=0, description="keep times on this grid only, hours")
    start_h: float | None = Field(None, description="drop earlier times")
    end_h: float | None = Field(None, description="drop later times")


class Split(Section):
    """Which embryos are kept out of every fit, and from when they are rolled forward."""

    hold_out: int | list[str] = Field(3, description="number of embryos (the last by name) or their names")
    start_h: float | None = Field(None, description="start of the roll-out; the first time by default")
    end_h: float | None = Field(None, description="end of the roll-out; the last common time by default")


Fitted = Literal["pca", "hvg", "scvi"]
Pretrained = Literal[
    "geneformer", "maxtoki", "c2s", "scgpt", "tahoe-x1", "scfoundation", "cellfm", "gremln", "teddy", "scprint2"
]


class Protect(Section):
    """What no encoder may have been trained on; see `embryo.encoders.facts.leaks`."""

    organism: str | None = Field(None, description="of the data by default")
    stages: list[str] = Field(
        default_factory=list, description="such as E8.5, 30 hpf, or a range such as 24-48; hours where no unit"
    )
    genotypes: list[str] = Field(default_factory=list, description="such as Tal1")
    allow: bool = Field(default=False, description="use the encoder all the same; the provenance says so")


class Embed(Section):
    """Cell embedding z and gene panel g."""

    encoder: Literal[Fitted, Pretrained, "precomputed"] = Field("pca", description="see `embryo encoders list`")
    weights: Path | None = Field(
        None, description="folder of a pretrained encoder that you have downloaded; file of a precomputed embedding"
    )
    slot: str = Field("X_pca", description="obsm slot of a precomputed embedding")
    dims: int | None = Field(
        20, ge=1, description="a pretrained embedding is reduced to so many principal components; null keeps it whole"
    )
    decoder: Literal["ridge", "network"] = Field("ridge", description="leads from a pretrained embedding to genes")
    layer: int | None = Field(None, description="of a pretrained network; its own by default")
    pooling: str | None = Field(None, description="of a pretrained network; its own by default")
    device: str = Field("cpu", description="cpu, cuda, cuda:1, mps")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "float32", description="auto: bfloat16 where the hardware has it, as `embryo embed` does by itself"
    )
    batch_tokens: int = Field(16_384, ge=1, description="tokens per batch of a pretrained network")
    species: str | None = Field(None, description="of the data, where they do not say")
    orthologs: Path | None = Field(None, description="table of orthologs; that of the registry by default")
    min_coverage: float = Field(0.5, ge=0, le=1, description="share of the genes that a pretrained encoder must read")
    variant: str | None = Field(None, description="what an encoder of several forms needs to know; see its card")
    protect: Protect = Protect()
    panel: list[str] | Literal["auto"] = Field(
        "auto", description="gene names; auto takes the data's own list of circuit genes, else the most variable genes"
    )
    panel_size: int = Field(32, ge=1, description="size of an automatic panel")
    shrink: bool | Literal["auto"] = Field(
        "auto", description="shrink levels of the panel towards the cells around: counts for a circuit, where it can"
    )
    velocity_per_h: float | None = Field(
        None, gt=0, description="what 1 in layers['velocity'] means: so many counts of 10,000 per hour; null: not read"
    )


class Niche(Section):
    """Surroundings as a part of the cost of coupling; see `embryo.couple.Niche`."""

    weight: float = Field(0.0, ge=0, le=1, description="share of the cost; 0: surroundings do not count")
    of: str = Field("types", description="types, z, signals, or the name of a slot of obsm with features")
    neighbours: int = Field(10, ge=1)
    pairs: list[tuple[str, str]] = Field(default_factory=list, description="ligand and receptor, for signals")


class Couple(Section):
    """Who becomes whom; see `embryo.couple`."""

    method: Literal["auto", "tracks", "transport"] = "auto"
    solver: Literal["exact", "unbalanced", "fgw"] = "exact"
    space_weight: float = Field(0.5, ge=0, le=1)
    epsilon: float = Field(0.02, ge=0, description="entropy, in units of the mean cost; 0 for none")
    tau: float = Field(1.0, gt=0, description="unbalanced: penalty on unequal numbers of descendants")
    tau_target: float | None = Field(None, gt=0, description="unbalanced: the same of targets; null holds them equal")
    max_cells: int = Field(1500, ge=2, description="larger populations are coupled in linear memory")
    counts_grow: bool = True
    align: Literal["no", "near", "free"] = Field(
        "no", description="turn each time onto the one before it while coupling, from its pose or from any"
    )
    niche: Niche = Niche()
    transitions: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="penalties of type to type, in units of the mean cost; .inf forbids, * is any"
    )


class Fit(Section):
    """Flow matching; see `embryo.fit.Training`."""

    steps: int = Field(1000, ge=1)
    batch: int = Field(512, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    ema: float = Field(0.995, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    width_of_paths: float = Field(0.2, ge=0, description="displacement from the paths, share of each spread")
    pull: float = Field(0.5, ge=0, description="rate of return to the paths, per interval")
    delta: float | None = Field(
        None, gt=0, description="travelling Diracs: length at which growth is preferred to transport, in spreads"
    )
    smooth: bool = Field(default=False, description="one velocity at each cell along successive couplings")
    geodesic: float | None = Field(
        None, gt=0, description="bend paths to where cells are: width of the density, in distances to the tenth nearest"
    )
    diffusion: float = Field(0.0, ge=0, description="sigma of Brownian bridges around the paths, in spreads")
    reads: list[Literal["z", "g", "x"]] = ["z", "g", "x"]
    time: bool = Field(default=True, description="false: the law is the same at all times")
    width: int = Field(128, ge=1)
    depth: int = Field(3, ge=1)
    head_depth: int = Field(0, ge=0, description="hidden layers of each head of its own")
    structure: Literal["network", "matching", "circuit", "circuit+residual"] = Field(
        "network",
        description="network: flow matching on couplings; matching: stages matched without couplings; circuit: genes "
        "obey a regulatory circuit, fitted without couplings (3D series); circuit+residual: with functions of place "
        "and time in the production that read no gene",
    )
    residual: float = Field(0.1, gt=0, description="with circuit+residual: penalty of these functions")
    ligands: list[str] = Field(default_factory=list, description="with circuit: panel genes that are secreted")
    ligand_um: float = Field(12.0, gt=0, description="with circuit: length over which their signal falls")
    forces: bool = Field(
        default=False,
        description="with circuit: genes may move cells, by forces fitted to whole embryos; where embryos left out "
        "refute them, cells move as the tissue does",
    )
    sticky: list[str] = Field(default_factory=list, description="with forces: genes by which cells adhere; any if none")
    motile: list[str] = Field(default_factory=list, description="with forces: genes by which cells crawl; any if none")
    cycling: list[str] = Field(
        default_factory=list, description="with circuit: genes that change how fast cells divide; any if none"
    )
    posed: bool = Field(
        default=True,
        description="with circuit: false where embryos lie as they fell: inputs are then the distance from the middle "
        "and the crowding, and the body swells",
    )
    marginal_steps: int = Field(
        0, ge=0, description="with circuit: steps by which it is led on from local means to joint distributions"
    )
    bootstrap: bool = Field(
        default=False,
        description="with circuit or matching: laws of further seeds are fitted to embryos drawn with replacement",
    )
    knockouts: list[str] = Field(
        default_factory=list,
        description="with circuit: labels of obs['perturbation'] to learn from, knockout GENE",
    )
    prior: list[tuple[str, str]] = Field(
        default_factory=list, description="with circuit: likely regulations, source and target; their weights cost less"
    )
    neighbours: int = Field(
        0,
        ge=0,
        description="above 0: a law that reads so many neighbours and turns with the body (embryo.fields.spatial)",
    )
    attention: float | None = Field(
        None,
        ge=0,
        description="with neighbours: diffusion time of graph-diffused attention to them; 0: plain",
    )
    device: str = Field("cpu", description="cpu, cuda, cuda:1, mps")


class Simulate(Section):
    """The roll-out's grid."""

    method: Literal["euler", "midpoint", "rk4", "dopri5"] = Field(
        "rk4", description="dopri5 (torchdiffeq) chooses its steps: to check a grid, not to compare edits"
    )
    step_h: float = Field(0.25, gt=0)
    save_every_h: float = Field(0.5, gt=0)
    max_cells: int = Field(20_000, ge=1, description="more start cells are subsampled, each standing for several")
    device: str = Field("cpu", description="cpu, cuda, cuda:1, mps")
    growth: Literal["mass", "particles"] = Field(
        "mass", description="of `simulate --start` and `perturb`: masses that change, or cells that divide and die"
    )


class Perturb(Section):
    """The edits, each a record of `embryo.core.edit.Edit`."""

    edits: list[dict[str, Any]] = Field(default_factory=lambda: [{"gene": "tail"}])
    decay_per_h: float = Field(1.0, gt=0, description="decay rate of panel products, 1/h")

    def records(self) -> tuple[Edit, ...]:
        """Return the edits as records."""
        return tuple(Edit.from_json(e) for e in self.edits)


class Measure(Section):
    """Tables: horizons of the position error and size of the read-out."""

    horizons_h: list[float] = Field(default_factory=lambda: [0.25, 0.5, 1.0])
    neighbours: int = Field(15, ge=1)
    max_cells: int = Field(1000, ge=10, description="cells per population in energy distances")
    read_out_cells: int = Field(5000, ge=10, description="training cells that fates are read off")
    repeats: int = Field(5, ge=0, description="measured wild-type embryos whose spread stands beside an effect")


class Render(Section):
    """Pictures."""

    film: bool = True
    fps: int = Field(8, ge=1)
    colour: str = Field("cell_type", description="cell_type, or a panel gene")


class Config(Section):
    """A whole run."""

    name: str = "demo"
    seed: int = 0
    seeds: int = Field(3, ge=1, description="fits with seeds seed, seed+1, ...: the spread of every number")
    read: Read = Read()
    split: Split = Split()
    embed: Embed = Embed()
    couple: Couple = Couple()
    fit: Fit = Fit()
    simulate: Simulate = Simulate()
    perturb: Perturb = Perturb()
    measure: Measure = Measure()
    render: Render = Render()
