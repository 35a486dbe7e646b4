"""What is known of a circuit before it is fitted, and what its fit asks of the cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float
from torch import Tensor

from embryo.core import schema
from embryo.core.errors import Problem, SchemaError
from embryo.fields.circuit import Held
from embryo.fit import circuit as circuits
from embryo.fit import marginals
from embryo.fit.tissue import Forces

_KNOCKOUT = "knockout "
_LIKELY, FORBIDDEN = 0.05, 1e6  # penalty of a weight that a prior names, and of one that a hard prior does not


@dataclass(frozen=True)
class Wiring:
    """What is known of the circuit beforehand.

    Parameters
    ----------
    ligands
        Panel genes that are secreted.
    length_um
        Over which their signal falls.
    posed
        Whether the bodies lie in one pose, so that their axes mean something.
    led
        How the circuit is led on to the joint distributions of the stages; None leaves it at their local means.
    held
        Inputs measured in every cell, ``obsm["inputs"]``, and how they fade; None to find inputs as functions of the
        place in the body.
    residual
        Penalty of a residual of place and time in the production (`embryo.fields.residual`): of the squared weight of
        its smoothest functions, more for rougher ones. None for the circuit alone.
    drawn
        Whether circuit, growth and motion are fitted to embryos drawn with replacement, by the seed of the training.
    settings
        Of the fit.
    forces
        Which genes may move cells; None where none does.
    cycling
        Genes that change how fast cells divide and die; any may where none is named.
    prior
        Likely edges, (source, target): their weights cost less. Sources are genes of the panel (a ligand's name is that
        of its signal too) and measured inputs; edges of others are passed over.
    hard
        Whether the prior forbids what it does not name; inputs that the fit itself finds are always allowed.
    """

    ligands: tuple[str, ...] = ()
    length_um: float = 12.0
    posed: bool = True
    led: marginals.Settings | None = None
    held: Held | None = None
    residual: float | None = None
    drawn: bool = False
    settings: circuits.Settings = field(default_factory=circuits.Settings)
    prior: tuple[tuple[str, str], ...] = ()
    hard: bool = False
    forces: Forces | None = None
    cycling: tuple[str, ...] = ()

    @property
    def roles(self) -> dict[str, tuple[str, ...]]:
        """Genes that were named, by what they do."""
        named = {"ligand": self.ligands, "cycling gene": self.cycling}
        if self.forces is not None:
            named |= {"sticky gene": self.forces.sticky, "motile gene": self.forces.motile}
        return named

    def penalties(self, panel: Sequence[str], inputs: Sequence[str]) -> Float[Tensor, "genes columns"] | None:
        """Return what every weight costs beside others, columns as a circuit reads them; None without a prior."""
        if not self.prior:
            return None
        sources, edges = (*panel, *inputs, *self.ligands), set(self.prior)
        found = [name for name in inputs if self.held is None or name not in self.held.names]
        other = {s: 1.0 if s in found or not self.hard else FORBIDDEN for s in sources}
        rows = [[_LIKELY if (s, target) in edges else other[s] for s in sources] for target in panel]
        return torch.tensor(rows, dtype=torch.float64)

    def require(self, adata: AnnData, panel: Sequence[str], lost: Mapping[str, tuple[int, ...]]) -> None:
        """Raise `SchemaError` with all that cells, panel and measured edits (columns by label) lack for this fit."""
        problems = [
            Problem(f"measured edit {label!r}", "knockout GENE, of genes of the panel", "name others, or leave it out")
            for label, genes in lost.items()
            if not genes
        ]
        problems += [
            Problem(f"{role} {name!r}", f"a gene of the panel: {', '.join(panel[:12])}", "add it to embed.panel")
            for role, names in self.roles.items()
            for name in names
            if name not in panel
        ]
        if self.forces is not None:
            if schema.MASS in adata.obs and (adata.obs[schema.MASS].to_numpy(float) > 1).any():
                found = f"cells that stand for several (obs[{schema.MASS!r}])"
                problems.append(
                    Problem(found, "every cell, for forces", "give whole embryos, or set fit.forces to false")
                )
            if not self.posed:
                problems.append(Problem("forces between bodies without a pose", "a pose", "set fit.forces to false"))
        sources = {*panel, *(self.held.names if self.held is not None else ())}
        if self.prior and not any(source in sources and target in panel for source, target in self.prior):
            found = f"a prior of {len(self.prior)} edges, none of them between genes of the panel"
            problems.append(Problem(found, f"sources and targets among {', '.join(panel[:12])}", "correct the names"))
        problems += _of_velocities(adata, panel)
        space = np.asarray(adata.obsm[schema.ALIGNED]).shape[1] if schema.ALIGNED in adata.obsm else 0
        if space != 3:
            problems.append(Problem(f"{space} columns of positions", "3", "set fit.structure to network"))
        times = np.unique(adata.obs[schema.TIME].to_numpy(float))
        if len(times) < 2:
            problems.append(Problem(f"{len(times)} stage", "two or more", "give a series"))
        if problems:
            raise SchemaError(*problems, subject="fit.structure = circuit")


def silenced(label: str, panel: Sequence[str]) -> tuple[int, ...]:
    """Return the columns of the genes of a label; none where it is no knock-out of genes of the panel."""
    words = [part.removeprefix(_KNOCKOUT) for part in label.split(" + ") if part.startswith(_KNOCKOUT)]
    known = len(words) == len(label.split(" + ")) and all(word in panel for word in words)
    return tuple(panel.index(word) for word in words) if known else ()


def _of_velocities(adata: AnnData, panel: Sequence[str]) -> list[Problem]:
    """Return what is wrong with measured velocities."""
    if schema.VELOCITY not in adata.obsm:
        return []
    dy, slot = np.asarray(adata.obsm[schema.VELOCITY], dtype=float), f"obsm[{schema.VELOCITY!r}]"
    wanted = f"d/dt of expm1(X_panel) per hour, {len(panel)} columns"
    if dy.shape[1] != len(panel):
        return [Problem(f"{dy.shape[1]} columns in {slot}", wanted, "give one column per gene of the panel")]
    mute = [gene for gene, heard in zip(panel, np.isfinite(dy).any(axis=0), strict=True) if not heard]
    cure = "leave these genes out of the panel, or the velocities out"
    return [Problem(f"no velocity of {', '.join(mute)} in any cell of {slot}", wanted, cure)] if mute else []
