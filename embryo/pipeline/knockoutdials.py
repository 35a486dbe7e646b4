"""What a config says of a board of knock-outs: the dials of the synthetic embryo, or where a chimera lies."""

from typing import Literal

from pydantic import Field

from embryo.config import Embed, Read, Section

REGULATORS = ("head", "middle", "trunk", "tail", "ventral", "dorsal", "ligand", "induced")


class SyntheticBoard(Section):
    """Knock-outs of the synthetic embryo, whose truth is simulated with embryos that nothing was fitted on."""

    name: str
    kind: Literal["synthetic"] = "synthetic"
    n_cells: int = Field(1200, ge=50, description="at the start; about three times as many at the end")
    n_embryos: int = Field(6, ge=2, description="wild-type embryos to learn from")
    n_truth: int = Field(4, ge=2, description="embryos that carry each edit, and wild types of the same founders")
    dose_sd: float = Field(0.2, ge=0, description="spread of the log dose of maternal gradients between embryos")
    truth_dose_sd: float = Field(0.0, ge=0, description="the same of the truth: 0 is the embryo of mean dose")
    max_cells: int = Field(400, ge=20, description="training cells per embryo and stage; more are drawn")
    start_h: float = Field(0.0, ge=0)
    end_h: float = Field(16.0, gt=0, description="where knock-outs are judged")
    spacing_h: float = Field(1.0, gt=0, description="between stages; a gene's decay time is 1 h")
    edits: list[str] = Field(list(REGULATORS), min_length=1, description="genes whose knock-outs are judged")
    training_knockouts: list[str] = Field(default_factory=list, description="measured knock-outs to learn from")
    inputs: Literal["known", "unknown"] = Field("known", description="whether maternal gradients are measured")
    counts_per_unit: float | None = Field(None, gt=0, description="none: expression is seen as it is")
    velocity: Literal["snapshots", "noisy", "known"] = "snapshots"
    destructive: bool = Field(default=False, description="each embryo is seen once")
    hidden: list[str] = Field(default_factory=list, description="regulators that the experiment does not see")
    prior: Literal["none", "true", "wrong"] = Field("none", description="wrong: 30 % of edges missing, 40 false ones")
    hard_prior: bool = Field(default=False, description="whether the prior forbids what it does not name")
    forces: bool = Field(default=False, description="whether genes may move cells: whole embryos, so raise max_cells")
    static: bool = Field(default=False, description="a tissue that neither moves nor grows")
    n_genes: int = Field(120, ge=18)
    embed: Embed = Embed(encoder="pca", dims=10)
    models: list[str] = Field(["network"], description="predictors to judge; see embryo.pipeline.knockoutpredictors")
    notes: list[str] = Field(default_factory=list, description="what a reader must know of these cells")


class ChimeraBoard(Section):
    """Measured cells that carry an edit beside cells that do not, at one stage."""

    name: str
    kind: Literal["chimera"] = "chimera"
    read: Read = Read(dataset="mouse-tal1-chimera")
    gene: str = Field("Tal1", description="the edited gene, as obs['perturbation'] names it")
    panel_gene: str | None = Field(None, description="the same gene as the columns name it")
    embryo: str = Field("embryo", description="column of the units that draws are made of")
    unit: str = Field("embryos", description="what they are")
    drop_genes: list[str] = Field(default_factory=list)
    embed: Embed = Embed(encoder="pca", dims=10)
    models: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)


KnockoutBoard = SyntheticBoard | ChimeraBoard
