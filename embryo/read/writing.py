"""Writing the AnnData that was read: checked first, whole or not at all."""

from pathlib import Path

from anndata import AnnData

from embryo.core import schema
from embryo.core.errors import EmbryoError, Problem, StoreError
from embryo.core.schema import SNAPSHOT, Needs
from embryo.core.store import atomic
from embryo.read import files


def write(adata: AnnData, path: str | Path, *, needs: Needs = SNAPSHOT) -> Path:
    """Write an AnnData that keeps the contract as h5ad or zarr; what stood at `path` is replaced only by a whole one.

    Parameters
    ----------
    adata
        Not modified.
    path
        Ending in ``.h5ad`` or ``.zarr``.
    needs
        What is checked on top; one time is enough by default.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    SchemaError
        If the data do not keep the contract.
    StoreError
        For another ending, values that the format cannot hold, or a place that cannot be written.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in (".h5ad", ".zarr"):
        problem = Problem(f"the ending {suffix or '(none)'}", ".h5ad or .zarr", "rename the target")
        raise StoreError(problem, subject=target.name)
    schema.require(adata, needs, subject=target.name)
    try:
        with atomic(target) as partial, files.quiet():
            if suffix == ".h5ad":
                adata.write_h5ad(partial, convert_strings_to_categoricals=False)
            else:
                adata.write_zarr(partial, convert_strings_to_categoricals=False)
    except (EmbryoError, MemoryError):
        raise
    except Exception as error:  # anndata's own error types are not public
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        problem = Problem(f"values that {suffix} cannot hold ({reason})", "numbers, text and mappings", "remove them")
        raise StoreError(problem, subject=target.name) from error
    return target
