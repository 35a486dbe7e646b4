"""perturb: edits -> the edited start and the edited law, and the same edits on the gene inputs of cells.

An edit acts on *production* and is held through the whole roll-out, not only at the start: a gene that switches on
later would otherwise escape it. A law that knows its production (`embryo.core.field.Structured`) has it edited where it
arises; of any other, with decay rate lambda, the velocity of a gene is read as production minus decay,

    dg/dt = p(t, state) - lambda g,        p = max(dg/dt + lambda g, 0),

and the operation replaces p: knock-out 0; knock-down dose p; over-expression p + lambda dose; clamp lambda dose.
What the edit changes in the panel at the start, and through a law that does not know its production, is carried into
the embedding through the encoder's own response dz/dg, so that z stays the embedding of the edited cell.
"""

from embryo.perturb.applied import apply, check, knockout
from embryo.perturb.context import Context, carriers
from embryo.perturb.held import EditedField
from embryo.perturb.inputs import genes
from embryo.perturb.wiring import Rewired

__all__ = ["Context", "EditedField", "Rewired", "apply", "carriers", "check", "genes", "knockout"]
