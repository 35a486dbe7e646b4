"""Gene programs between genes and cell: an encoder whose parts can be read, and edited, program by program.

A head (`embryo.encoders.programs.network`) over the levels of genes or over the gene embeddings of any pretrained
encoder. It is trained to give back log1p expression of the programs' genes, from the cell embedding and from each
program's token alone, on training embryos; some of them are set aside to say when to stop. What it is worth is
`Programs.reconstruction` on other embryos, beside the mean of the training cells.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from jaxtyping import Float
from torch import Tensor

from embryo.core import schema
from embryo.core.checks import phrases
from embryo.core.edit import Edit, Operation
from embryo.core.errors import ConfigError, EditError, Problem, SchemaError, StaleError
from embryo.encoders.contract import require_fitted, require_kind
from embryo.encoders.decoding.heldout import HeldOut, measure, squared_errors
from embryo.encoders.inputs import normalise
from embryo.encoders.programs import gene_states, gmt
from embryo.encoders.programs import training as program_training
from embryo.encoders.programs.fitted import Fitted
from embryo.encoders.programs.gmt import GeneSets, Membership
from embryo.encoders.programs.network import Sizes
from embryo.encoders.programs.training import Cells, Training

if TYPE_CHECKING:
    from embryo.encoders.pretrained import Pretrained

UNIT = "standard deviations over the training cells"
_FEWEST, _ROWS = 4, 256  # cells of a fit, cells at a time
_REFERENCE, _STATES = 16, 4e9  # cells of a response, bytes of gene states held
_OF = "of."  # names of stored responses


@dataclass(frozen=True)
class Shift:
    """What an edit does to cells: edited minus unedited, cell by cell.

    Parameters
    ----------
    z
        Of the cell embedding.
    scores
        Of every program's score; see `Programs.scores` for the unit.
    """

    z: Float[np.ndarray, "cells dims"]
    scores: pd.DataFrame


@dataclass(eq=False)
class Programs:
    """The encoder; not fitted until `fit`.

    Parameters
    ----------
    dims
        Of the cell embedding.
    seed
        Of weights, batches and the embryos set aside.
    sets
        Gene programs, their genes named as in the data.
    source
        A pretrained encoder whose gene embeddings are pooled; none to learn a state per gene from its level.
    training
        Sizes, limits and length of the training.
    """

    dims: int = 32
    seed: int = 0
    sets: GeneSets | None = None
    source: "Pretrained | None" = None
    training: Training = Training()  # noqa: RUF009  frozen
    fitted: Fitted | None = None
    name: str = "programs"

    def __post_init__(self) -> None:
        self.responses: dict[str, np.ndarray] = {}
        self.reference: AnnData | None = None

    # ------------------------------------------------------------ fitting

    def fit(self, adata: AnnData) -> "Programs":
        """Return the encoder trained on the cells of `adata`, which must be training embryos only.

        Neither the order of the cells (their names must differ) nor that of the genes matters.

        Raises
        ------
        ConfigError
            If there are no gene programs.
        SchemaError
            If the expression is unusable or no program has enough genes at hand.
        DivergedError
            If the loss stops being finite.
        """
        if self.sets is None:
            problem = Problem("no gene programs", "a GMT file", "give sets=gmt.read(path)")
            raise ConfigError(problem, subject="programs")
        if adata.n_obs < _FEWEST:
            problem = Problem(f"{adata.n_obs} cells", f"{_FEWEST} or more", "fit on more cells")
            raise SchemaError(problem, subject="programs")
        normalise.positions(adata, [])  # refuses double gene names
        t = self.training
        membership = gmt.mask(self.sets, list(adata.var_names), fewest=t.fewest, most=t.most)
        library = tuple(sorted(map(str, adata.var_names)))
        train = self._chosen(adata, len(membership.genes))
        cells = self._cells(train, library, membership)
        sizes = Sizes(self.dims, t.width, t.heads, t.layers, cells.states)
        network, epochs = program_training.train(cells, torch.as_tensor(membership.member), sizes, t, self.seed)
        embryos = tuple(np.unique(_embryos(train))) if schema.EMBRYO in train.obs else ()
        found = Fitted(membership, network, library, normalise.kind(train), embryos, epochs, {})
        tensors = program_training.read_out(network, cells)
        if self.source is None:
            tensors["response"] = program_training.jacobian(network, cells.genes[: 16 * _REFERENCE])
        done = replace(self, fitted=replace(found, tensors=tensors))
        done.reference = train[:_REFERENCE].copy() if self.source is not None else None
        return done

    def _chosen(self, adata: AnnData, genes: int) -> AnnData:
        """Cells in an order of their own; with a source, as many as its gene states may take room."""
        order = np.argsort(adata.obs_names.to_numpy().astype(str), kind="stable")
        draws = np.random.default_rng(self.seed).permutation(len(order))
        most = self.training.cells
        if self.source is not None:
            one = next(self.source.gene_embeddings(adata[order[:1]].copy(), [str(adata.var_names[0])]))[1]
            most = min(most, int(_STATES / (4 * genes * one.shape[-1])))
        return adata[order[draws[: max(most, 1)]]].copy()

    def _cells(self, adata: AnnData, library: Sequence[str], membership: Membership) -> Cells:
        levels = torch.as_tensor(gene_states.levels(adata, library, membership.genes), dtype=torch.float32)
        codes = np.unique(_embryos(adata), return_inverse=True)[1].astype(np.int64)
        if self.source is None:
            return Cells(levels, levels, None, codes)
        held: list[Any] = list(self.source.gene_embeddings(adata, membership.genes))
        back = np.argsort(np.concatenate([rows for rows, _, _ in held]))
        states, found = (torch.cat([part[k] for part in held])[back] for k in (1, 2))
        return Cells(states, levels, found, codes)

    # ------------------------------------------------------------ encoding

    @property
    def genes(self) -> tuple[str, ...]:
        """Genes of the programs, the columns of `decode`; empty before `fit`."""
        return self.fitted.membership.genes if self.fitted is not None else ()

    @property
    def library(self) -> tuple[str, ...]:
        """All genes of the fit."""
        return self.fitted.library if self.fitted is not None else ()

    def encode(self, adata: AnnData) -> Float[np.ndarray, "cells dims"]:
        """Embed cells; every gene of the library is needed, see `Encoder.encode`."""
        return self._embed(adata)[0]

    def scores(self, adata: AnnData) -> pd.DataFrame:
        """Return the read-out of every program in every cell.

        A score is the program token's place on the axis along which it varies most over the training cells (first
        principal component), higher where the members' mean level is higher.

        Returns
        -------
        DataFrame
            Cells by programs; the unit of each column stands in ``attrs["units"]``.
        """
        return self._frame(self._embed(adata)[1], adata)

    def decode(self, z: Float[np.ndarray, "cells dims"]) -> Float[np.ndarray, "cells genes"]:
        """Return log1p expression of `genes`; its error on other embryos is what `reconstruction` says."""
        with torch.no_grad():
            return np.asarray(self._fitted().network.decode(torch.as_tensor(z, dtype=torch.float32)).double().numpy())

    def response(self, genes: Sequence[str]) -> Float[np.ndarray, "genes dims"]:
        """Return dz/dg, the mean over cells of the training; see `Encoder.response`.

        Over levels it is the network's Jacobian; over a pretrained source, finite differences as in `Pretrained`:
        the change of z when the gene is knocked out (raised by 1 where it is silent), on the change of its level.

        Raises
        ------
        StaleError
            If the source's weights are not here and the gene was not asked for before.
        """
        f = self._fitted()
        zero: np.ndarray = np.zeros(self.dims)
        if "response" in f.tensors:
            known = dict(zip(f.membership.genes, f.tensors["response"], strict=True))
        else:
            for gene in genes:
                if gene not in self.responses:
                    self.responses[gene] = self._difference(gene) if gene in f.library else zero
            known = self.responses
        return np.stack([known.get(gene, zero) for gene in genes]) if genes else np.zeros((0, self.dims))

    def _difference(self, gene: str) -> np.ndarray:
        if self.reference is None:
            cure = "ask for it before the encoder is stored"
            raise StaleError(Problem(f"no response to {gene}", "the cells and weights of the fit", cure))
        level = gene_states.levels(self.reference, self.library, [gene])[:, 0]
        edit = Edit(gene) if level.any() else Edit(gene, Operation.OVEREXPRESS, dose=1.0)
        step = -level if level.any() else np.ones_like(level)
        change = self._embed(self.reference, [edit])[0] - self._embed(self.reference)[0]
        return np.asarray(step @ change / (step @ step))

    # ------------------------------------------------------------ edits

    def program_edits(self, program: str, operation: Operation = Operation.KNOCKOUT, dose: float = 0.0) -> list[Edit]:
        """Return the edit of every gene of a program that is at hand.

        Raises
        ------
        EditError
            If there is no such program.
        """
        membership = self._fitted().membership
        if program not in membership.programs:
            found = f"program {program!r}{phrases.nearest(program, membership.programs)}"
            cure = "choose one of these; programs with few genes at hand are left out"
            raise EditError(Problem(found, f"one of {phrases.few(membership.programs, 12)}", cure))
        return [Edit(gene, operation, dose) for gene in membership.members(program)]

    def shift(self, adata: AnnData, edits: Sequence[Edit]) -> Shift:
        """Return what edits, of a program or of genes, do to each cell at once: gene inputs edited, nothing rolled out.

        Raises
        ------
        EditError
            If an edit has a window, a mosaic or a type, or a gene that the data do not hold.
        """
        gene_states.require_plain(edits, self.library)
        (z0, s0), (z1, s1) = self._embed(adata), self._embed(adata, edits)
        return Shift(z1 - z0, self._frame(s1 - s0, adata))

    # ------------------------------------------------------------ what it is worth

    def reconstruction(self, adata: AnnData) -> HeldOut:
        """Return the error of `decode` on the cells of other embryos, beside the mean of the training cells.

        Raises
        ------
        SchemaError
            If an embryo was seen in the fit.
        """
        f = self._fitted()
        groups = _embryos(adata)
        seen = sorted(set(groups) & set(f.embryos))
        if seen:
            problem = Problem(f"embryos of the fit: {phrases.few(seen)}", "other embryos", "hold some out of the fit")
            raise SchemaError(problem, subject="programs")
        levels, z = gene_states.levels(adata, f.library, self.genes), self.encode(adata)
        mean = f.network.centre.double().numpy()
        folds = [np.flatnonzero(groups == group) for group in np.unique(groups)]
        errors = [squared_errors([self.decode(z[rows])], levels[rows], mean) for rows in folds]
        by = "embryo" if schema.EMBRYO in adata.obs else "cell"
        return measure(errors, test_cells=len(z), by=by, subject="programs")

    # ------------------------------------------------------------ the store

    def provenance(self) -> dict[str, Any]:
        """Return what an embedding's reader must know: programs, cells' embryos, and the encoder below, if any."""
        f = self._fitted()
        source = {} if self.source is None else {"source": self.source.provenance()}
        return {
            "encoder": self.name, "dims": self.dims, "seed": self.seed, "genes_used": len(f.library),
            "programs": str(f.membership), "embryos_fitted": list(f.embryos), **source,
        }  # fmt: skip

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the network and its read-outs; a source's weights stay where the user keeps them."""
        return self._fitted().stored() | {f"{_OF}{gene}": row for gene, row in self.responses.items()}

    def record(self) -> dict[str, Any]:
        """Return what is not a tensor: programs, genes and settings, JSON-ready."""
        source = None if self.source is None else self.source.provenance()
        settings = {"dims": self.dims, "seed": self.seed, "training": asdict(self.training), "source": source}
        return settings | self._fitted().record()

    @classmethod
    def restore(
        cls, tensors: Mapping[str, np.ndarray], record: Mapping[str, Any], source: "Pretrained | None" = None
    ) -> "Programs":
        """Rebuild from `tensors` and `record`; `source` is the pretrained encoder it was fitted on, if any."""
        fitted = Fitted.restore({key: value for key, value in tensors.items() if not key.startswith(_OF)}, record)
        training = Training(**record["training"])
        done = cls(record["dims"], record["seed"], source=source, training=training, fitted=fitted)
        done.responses = {key.removeprefix(_OF): value for key, value in tensors.items() if key.startswith(_OF)}
        return done

    # ------------------------------------------------------------ inside

    def _fitted(self) -> Fitted:
        require_fitted(self.name, self.genes)
        if self.fitted is None:
            raise AssertionError
        return self.fitted

    def _embed(self, adata: AnnData, edits: Sequence[Edit] = ()) -> tuple[np.ndarray, np.ndarray]:
        """Return z and scores of the cells, their gene inputs edited."""
        f = self._fitted()
        z, scores = np.empty((adata.n_obs, self.dims)), np.empty((adata.n_obs, len(f.membership.programs)))
        mean, axis = (torch.as_tensor(f.tensors[key]) for key in ("score_mean", "score_axis"))
        with torch.no_grad():
            for rows, genes, found in self._inputs(adata, edits):
                embedding, tokens = f.network(genes, found)
                z[rows], scores[rows] = embedding.numpy(), ((tokens - mean) * axis).sum(-1).numpy()
        return z, scores

    def _inputs(self, adata: AnnData, edits: Sequence[Edit]) -> Iterator[tuple[np.ndarray, Tensor, Tensor | None]]:
        f = self._fitted()
        require_kind(adata, f.expression)
        if f.network.sizes.states:
            if self.source is None:
                found = "a head over a pretrained encoder without its weights"
                raise StaleError(Problem(found, "that encoder", "restore it with source=the opened encoder"))
            yield from self.source.gene_embeddings(adata, f.membership.genes, edits)
            return
        values = gene_states.levels(adata, f.library, f.membership.genes)
        relative = f.expression == normalise.RELATIVE
        values = gene_states.edited(values, f.membership.genes, edits, relative=relative)
        for start in range(0, len(values), _ROWS):
            rows = np.arange(start, min(start + _ROWS, len(values)))
            yield rows, torch.as_tensor(values[rows], dtype=torch.float32), None

    def _frame(self, values: np.ndarray, adata: AnnData) -> pd.DataFrame:
        programs = self._fitted().membership.programs
        frame = pd.DataFrame(values, index=adata.obs_names, columns=list(programs))
        frame.attrs["units"] = dict.fromkeys(programs, UNIT)
        return frame


def _embryos(adata: AnnData) -> np.ndarray:
    if schema.EMBRYO not in adata.obs:
        return np.full(adata.n_obs, "")
    return np.asarray(adata.obs[schema.EMBRYO].astype(str).to_numpy(), dtype=str)
