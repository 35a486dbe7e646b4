"""Do arrays that share axes agree? One answer that lists every axis on which they do not."""

from collections.abc import Mapping

from embryo.core.errors import Problem

Shapes = Mapping[str, tuple[int, ...]]
Axes = Mapping[str, tuple[str, ...]]


def disagreements(shapes: Shapes, axes: Axes) -> list[Problem]:
    """List the arrays with a wrong number of axes, and the axes whose length differs between arrays.

    Parameters
    ----------
    shapes
        Shape of each array by name; arrays that `axes` does not name are left out.
    axes
        Names of the axes of each array; a name that two arrays share must have one length.

    Returns
    -------
    list of Problem
        Empty where all agree.
    """
    problems = []
    lengths: dict[str, dict[int, list[str]]] = {}
    for name, shape in shapes.items():
        wanted = axes.get(name)
        if wanted is None:
            continue
        if len(shape) != len(wanted):
            problems.append(
                Problem(
                    f"{name} of shape {tuple(shape)}",
                    f"the axes ({', '.join(wanted)})",
                    f"give {name} {len(wanted)} axes",
                )
            )
            continue
        for axis, length in zip(wanted, shape, strict=True):
            lengths.setdefault(axis, {}).setdefault(length, []).append(name)
    for axis, found in lengths.items():
        if len(found) > 1:
            said = "; ".join(f"{length} in {', '.join(names)}" for length, names in found.items())
            problems.append(Problem(f"different numbers of {axis}: {said}", "one number", f"give all the same {axis}"))
    return problems
