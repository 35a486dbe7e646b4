"""Read: h5ad, zarr, SpatialData or tracks -> checked AnnData in µm and hours.

::

    adata = read.auto("embryo.h5ad")                                          # names and units recognised
    adata = read.auto("embryo.h5ad", read.Keys(time="day", space_unit="mm"))  # or said
    adata = read.auto("tracks.csv", read.Keys(time_unit="1.5 min", space_unit="px", pixel_um=0.2, z_um=1.0))

Units are never guessed from numbers: `Keys` come first, then what the file states in ``uns``, then names that can mean
one thing only (``E9.5``, ``24hpf``, a column ``hpf`` or ``x_um``). Otherwise reading stops and says how to give them.
Files are opened for reading only.
"""

from pathlib import Path

from anndata import AnnData

from embryo.core import schema
from embryo.core.schema import SERIES, Needs
from embryo.read import files, tables
from embryo.read.contract import adopt, convert
from embryo.read.keys import DEFAULT, Keys
from embryo.read.writing import write

__all__ = ["Keys", "adopt", "auto", "h5ad", "spatialdata", "tracks", "write", "zarr"]


def auto(path: str | Path, keys: Keys = DEFAULT, *, needs: Needs = SERIES) -> AnnData:
    """Read any file that embryo knows, by its ending and layout.

    Parameters
    ----------
    path
        ``.h5ad``; a zarr folder with an AnnData or a SpatialData; ``.csv``, ``.tsv`` or ``.txt`` tracks, or a folder of
        csv files. Opened for reading only.
    keys
        Names and units where the conventions are not enough.
    needs
        What the next step needs.

    Returns
    -------
    AnnData
        See `adopt`.

    Raises
    ------
    StoreError
        If the file is missing, damaged, or nothing that embryo reads.
    SchemaError
        With everything that is wrong with the data, at once.
    """
    readers = {"h5ad": h5ad, "zarr": zarr, "spatialdata": spatialdata, "tracks": tracks}
    return readers[files.kind(Path(path))](path, keys, needs=needs)


def h5ad(path: str | Path, keys: Keys = DEFAULT, *, needs: Needs = SERIES) -> AnnData:
    """Read an h5ad file; see `auto`."""
    path = Path(path)
    return convert(files.read_h5ad(path), keys, needs=needs, subject=path.name)


def zarr(path: str | Path, keys: Keys = DEFAULT, *, needs: Needs = SERIES) -> AnnData:
    """Read a zarr folder that AnnData wrote; see `auto`."""
    path = Path(path)
    return convert(files.read_zarr(path), keys, needs=needs, subject=path.name)


def spatialdata(path: str | Path, keys: Keys = DEFAULT, *, needs: Needs = SERIES) -> AnnData:
    """Read the cells of a SpatialData zarr folder, placed at the centroids of their shapes; see `auto`."""
    from embryo.read import spatial  # noqa: PLC0415  seconds to import

    path = Path(path)
    return convert(spatial.load(path, keys), keys, needs=needs, subject=path.name)


def tracks(path: str | Path, keys: Keys = DEFAULT, *, needs: Needs = SERIES) -> AnnData:
    """Read tracked cells from csv.

    Three layouts are told apart by their header: AceTree and EPIC (``cellTime,cell,time,...,blot,cross,z,x,y,...``;
    pixels, planes and minutes of EPIC unless `keys` say otherwise), a trajectory's samples (``samples,x1,x2,...``),
    and any table with named columns (cell, time, x, y, z, parent, embryo; every other number is a gene, or name them
    by ``keys.genes``). A folder holds one csv per embryo.

    Parameters
    ----------
    path, keys, needs
        As for `auto`.

    Raises
    ------
    StoreError
        If a file is missing or no table.
    SchemaError
        With everything that is wrong with the data, at once.
    """
    path = Path(path)
    files.require(path)
    if path.is_dir():
        made = tables.folder(path, keys)
    else:
        made = tables.epic([path], keys) if tables.is_epic(path) else tables.table(path, keys)
    if schema.meta(made).get("time_unit"):
        keys = keys.replace(time_unit=None, space_unit=None)  # already µm and hours
    return convert(made, keys, needs=needs, subject=path.name)
