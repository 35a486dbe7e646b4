"""The store: whatever a run keeps, in versioned open formats, written whole or not at all. No pickle anywhere.

=========== ============================ ==========================================================
what        functions                    format
=========== ============================ ==========================================================
Trajectory  write_, read_trajectory      zarr v3 group, time-major, ``embryo-trajectory`` 1
of any size recording, open_trajectory   the same, frame by frame
Coupling    write_, read_coupling        zarr v3 group, the parts of a csr matrix, ``embryo-coupling`` 1
tensors     write_, read_tensors         safetensors, JSON meta in the header, ``embryo-tensors`` 1
records     write_, read_json            strict JSON
tables      write_, read_table           csv, tidy
anything    atomic                       what the caller writes
=========== ============================ ==========================================================

Every reader raises `StoreError` for a file that is missing, cut, damaged, foreign or of a newer version.
"""

from embryo.core.store.arrays import read_coupling, read_trajectory, write_coupling, write_trajectory
from embryo.core.store.files import atomic
from embryo.core.store.recordings import Head, Recording, Stored, open_trajectory, recording
from embryo.core.store.records import from_plain, read_json, to_plain, write_json
from embryo.core.store.tables import read_table, write_table
from embryo.core.store.tensors import read_tensors, write_tensors

__all__ = [
    "Head",
    "Recording",
    "Stored",
    "atomic",
    "from_plain",
    "open_trajectory",
    "read_coupling",
    "read_json",
    "read_table",
    "read_tensors",
    "read_trajectory",
    "recording",
    "to_plain",
    "write_coupling",
    "write_json",
    "write_table",
    "write_tensors",
    "write_trajectory",
]
