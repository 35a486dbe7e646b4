"""Units of files: one number that turns them into hours or µm, once."""

import re

import numpy as np

from embryo.core.checks import phrases
from embryo.core.errors import Problem
from embryo.read.keys import Keys

HOURS = {
    "h": 1.0, "hr": 1.0, "hrs": 1.0, "hour": 1.0, "hours": 1.0, "hpf": 1.0,
    "min": 1 / 60, "mins": 1 / 60, "minute": 1 / 60, "minutes": 1 / 60,
    "s": 1 / 3600, "sec": 1 / 3600, "second": 1 / 3600, "seconds": 1 / 3600,
    "d": 24.0, "day": 24.0, "days": 24.0, "dpf": 24.0, "dpc": 24.0, "e": 24.0,
    "week": 168.0, "weeks": 168.0, "w": 168.0, "wpf": 168.0, "pcw": 168.0,
}  # fmt: skip
MICROMETRES = {
    "um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometers": 1.0,
    "micrometre": 1.0, "micrometres": 1.0,
    "nm": 1e-3, "nanometer": 1e-3, "nanometers": 1e-3, "nanometre": 1e-3, "nanometres": 1e-3,
    "mm": 1e3, "millimeter": 1e3, "millimeters": 1e3, "millimetre": 1e3, "millimetres": 1e3,
    "cm": 1e4, "m": 1e6, "meter": 1e6, "meters": 1e6, "metre": 1e6, "metres": 1e6,
}  # fmt: skip
PIXELS = ("px", "pixel", "pixels", "voxel", "voxels")
_FORM = re.compile(r"\s*(\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)?\s*([^\d\s]+)\s*")


def hours(unit: str) -> float | Problem:
    """Return how many hours one `unit` of time is, or what is wrong with its name."""
    factor = _factor(unit, HOURS)
    if factor is not None:
        return factor
    return Problem(
        f"time unit {unit!r}{phrases.nearest(unit, HOURS)}",
        "h, min, s, day, week, hpf, dpf or E, with a number before it for frames (1.5 min)",
        "name one of these (--time-unit, config read.time_unit, -s read.time_unit=h)",
    )


def micrometres(unit: str, dims: int, keys: Keys) -> tuple[float, ...] | Problem:
    """Return how many µm one `unit` is along each axis, or what is wrong with its name."""
    if unit.strip().lower() in PIXELS:
        return _pixels(dims, keys)
    factor = _factor(unit, MICROMETRES)
    if factor is not None:
        return (factor,) * dims
    return Problem(
        f"space unit {unit!r}{phrases.nearest(unit, [*MICROMETRES, *PIXELS])}",
        "um, mm, nm, m, cm, or px with its size",
        "name one of these (--space-unit, config read.space_unit, -s read.space_unit=um)",
    )


def _pixels(dims: int, keys: Keys) -> tuple[float, ...] | Problem:
    names = ("pixel_um",) if dims < 3 else ("pixel_um", "z_um")
    missing = [name for name in names if getattr(keys, name) is None]
    if missing:
        how = " ".join(f"--key {name}=..." for name in missing)
        return Problem(
            f"positions in pixels without {' and '.join(missing)}",
            "the size of a pixel and, in 3D, the distance of planes, in µm",
            f"give them as the microscope was set ({how}; config read.keys)",
        )
    size = float(keys.pixel_um or np.nan)
    return (size, size) if dims < 3 else (size, size, float(keys.z_um or np.nan))


def _factor(unit: str, known: dict[str, float]) -> float | None:
    match = _FORM.fullmatch(unit)
    if match is None:
        return None
    name = match[2] if match[2] in known else match[2].lower()
    factor = known.get(name)
    times = float(match[1]) if match[1] else 1.0
    return None if factor is None or times <= 0 else times * factor
