"""Slots that a step needs and an edit may have dropped."""

from anndata import AnnData

from embryo.core import schema
from embryo.core.errors import Problem, StaleError

_CURE = {
    schema.EMBED: "run embryo.embed.cells again",
    schema.PANEL: "run embryo.embed.panel again",
    schema.ALIGNED: "run embryo.reconstruct.body_frame first",
}


def require(adata: AnnData, *slots: str) -> None:
    """Raise unless every slot of ``obsm`` in `slots` is present.

    Raises
    ------
    StaleError
        Naming each absent slot and the verb that writes it.
    """
    missing = [slot for slot in slots if slot not in adata.obsm]
    if missing:
        raise StaleError(
            *(
                Problem(
                    f"no obsm[{s!r}] (never written, or dropped by an edit)", "a fresh one", _CURE.get(s, "write it")
                )
                for s in missing
            )
        )
