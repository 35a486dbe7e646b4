"""`embryo perturb`: edits of a finished run, from the words of the command line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embryo.cli.console import Quiet, progress, resumable, say

if TYPE_CHECKING:
    from embryo.core.edit import Edit
    from embryo.core.errors import Problem

Genes = Annotated[list[str] | None, typer.Option(help="GENE, or the name of a --program; repeatable.")]
Doses = Annotated[list[str] | None, typer.Option(help="GENE=DOSE; repeatable.")]


def perturb(  # noqa: PLR0913  one option each
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder with fitted fields.")],
    *,
    start: Annotated[Path | None, typer.Option(help="Cells to edit, h5ad; later times: measured wild type.")] = None,
    knockout: Genes = None,
    knockdown: Annotated[list[str] | None, typer.Option(help="GENE=SHARE of production that is left.")] = None,
    overexpress: Annotated[list[str] | None, typer.Option(help="GENE=LEVEL (log1p) that is added.")] = None,
    clamp: Annotated[list[str] | None, typer.Option(help="GENE=LEVEL (log1p) at which it is held.")] = None,
    program: Annotated[list[str] | None, typer.Option(help="NAME=G1,G2: a gene set that other options name.")] = None,
    cut: Annotated[list[str] | None, typer.Option(help="A:B, the regulatory edge from A to B.")] = None,
    block_ligand: Annotated[list[str] | None, typer.Option(help="Ligand that is not sent.")] = None,
    block_receptor: Annotated[list[str] | None, typer.Option(help="Ligand that is not received.")] = None,
    ablate: Annotated[list[str] | None, typer.Option(help="Cell type to take out; all: by region or clone.")] = None,
    graft: Annotated[list[Path] | None, typer.Option(help="Cells to put in, h5ad, in the frame of the start.")] = None,
    in_type: Annotated[str | None, typer.Option(help="Only cells of this type.")] = None,
    in_region: Annotated[str | None, typer.Option(help="Only cells there: ap<0.3, z>10 (ap, dv, lr: 0 to 1).")] = None,
    mosaic: Annotated[float, typer.Option(help="Share of these cells.")] = 1.0,
    clone: Annotated[str | None, typer.Option(help="Only this cell and its descendants.")] = None,
    t_on_h: Annotated[float | None, typer.Option("--from", help="When it begins, hours.")] = None,
    t_off_h: Annotated[float | None, typer.Option("--to", help="When it ends, hours.")] = None,
    edits: Annotated[Path | None, typer.Option(help="Edits as JSON: a list of records, or an edits.json.")] = None,
    until_h: Annotated[float | None, typer.Option(help="End of the roll-out, hours.")] = None,
    abstain_above: Annotated[float, typer.Option(help="Share of states beyond the training data.")] = 0.5,
    nulls: Annotated[int, typer.Option(help="Genes of like level to edit the same way, for comparison.", min=0)] = 3,
    jobs: Annotated[int, typer.Option(help="With --each: processes.", min=1)] = 1,
    target: Annotated[Path | None, typer.Option("--out", "-o", help="Folder; in RUN/perturbations by default.")] = None,
    keep_pool: Annotated[bool, typer.Option("--keep-pool", help="Product that is there stays and decays.")] = False,
    by_itself: Annotated[bool, typer.Option("--each", help="Every edit by itself, with one control.")] = False,
    quiet: Quiet = False,
) -> None:
    """Roll a start forward with an edit beside its control: fates, size, axes, positions, shape, and how sure."""
    named = {"knockout": knockout, "block-ligand": block_ligand, "block-receptor": block_receptor}
    dosed = {"knockdown": knockdown, "overexpress": overexpress, "clamp": clamp}
    where = {"cell_type": in_type, "region": in_region, "clone": clone, "fraction": mosaic}
    when = {"t_on_h": t_on_h, "t_off_h": t_off_h, "keep_pool": keep_pool or None}
    of_cells = {"ablate": ablate, "graft": [str(g) for g in graft or ()]}
    records = parse({**named, **dosed, "cut": cut, **of_cells}, program or [], {**where, **when}, edits)
    from embryo.core.edit import label  # noqa: PLC0415
    from embryo.pipeline import perturbing  # noqa: PLC0415

    with resumable(), progress(quiet=quiet) as (tick, _):
        if by_itself:
            folder = target or run / "perturbations" / "each"
            groups = {label([e]): [r for r in records if label([r]) == label([e])] for e in records}
            how: dict[str, Any] = {"start": start, "until_h": until_h, "abstain_above": abstain_above, "nulls": nulls}
            perturbing.each(run, groups, folder, jobs=jobs, tick=tick, **how)
            say(f"{len(groups)} perturbations\n{folder / 'table.csv'}")
        else:
            bench = perturbing.Bench.open(run, start, until_h=until_h)
            found = perturbing.perturb(bench, records, target, abstain_above=abstain_above, nulls=nulls, tick=tick)
            say("\n".join([found.label, *found.sentences, f"{found.folder}/table.csv", f"{found.folder}/report.html"]))


def parse(
    words: dict[str, list[str] | None], programs: list[str], common: dict[str, Any], file: Path | None
) -> "list[Edit]":
    """Return the edits that words and a file ask for.

    Parameters
    ----------
    words
        Operation to what was said of it: GENE, GENE=DOSE, A:B, TYPE or FILE.
    programs
        NAME=G1,G2.
    common
        Cells, window and pool of all edits of `words`; None where not said.
    file
        Further records, complete in themselves.

    Raises
    ------
    EditError
        With all problems at once.
    """
    from embryo.core.edit import Edit  # noqa: PLC0415
    from embryo.core.errors import EditError, Problem  # noqa: PLC0415

    problems: list[Problem] = []
    sets: dict[str, list[str]] = {}
    for text in programs:
        name, _, genes = text.partition("=")
        sets[name.strip()] = [g.strip() for g in genes.split(",") if g.strip()]
        if not name.strip() or not sets[name.strip()]:
            problems.append(Problem(f"--program {text}", "NAME=G1,G2", "name the program and its genes"))
    given = {key: value for key, value in common.items() if value is not None}
    out, used = [], set()
    for operation, texts in words.items():
        for text in texts or ():
            for record in _records(operation, text, sets, problems):
                used.add(record.get("program"))
                try:
                    out.append(Edit.from_json({**given, "operation": operation, **record}))
                except EditError as error:
                    problems += error.problems
    idle = sorted(set(sets) - used)
    problems += [Problem(f"--program {n} that no edit names", "an edit of it", f"--knockout {n}") for n in idle]
    out += _read(file, problems) if file is not None else []
    if problems:
        raise EditError(*dict.fromkeys(problems), subject="perturb")
    return out


def _records(
    operation: str, text: str, sets: dict[str, list[str]], problems: "list[Problem]"
) -> Iterator[dict[str, Any]]:
    from embryo.core.errors import Problem  # noqa: PLC0415

    if operation == "ablate":
        yield {} if text == "all" else {"cell_type": text}
    elif operation == "graft":
        yield {"file": text, "fraction": 1.0}
    elif operation == "cut":
        a, _, b = text.partition(":")
        if not a or not b:
            problems.append(Problem(f"--cut {text}", "A:B", "name the regulator and its target"))
            return
        yield {"gene": a, "target": b}
    else:
        gene, mark, dose = text.partition("=") if operation in ("knockdown", "overexpress", "clamp") else (text, "", "")
        record: dict[str, Any] = {}
        if operation in ("knockdown", "overexpress", "clamp"):
            try:
                record = {"dose": float(dose)}
            except ValueError:
                found = f"--{operation} {text}"
                problems.append(Problem(found, "GENE=NUMBER", f"write {gene}=0.5" if not mark else "give a number"))
                return
        for name in sets.get(gene, [gene]):
            yield {"gene": name, **({"program": gene} if gene in sets else {}), **record}


def _read(file: Path, problems: "list[Problem]") -> "list[Edit]":
    from embryo.core.edit import Edit  # noqa: PLC0415
    from embryo.core.errors import EditError, Problem  # noqa: PLC0415

    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problems.append(Problem(f"{file.name}: {error}", "a JSON file of edits", "write a list of records"))
        return []
    held = held.get("edits", [held]) if isinstance(held, dict) else held
    out = []
    for record in held if isinstance(held, list) else [held]:
        try:
            out.append(Edit.from_json(record))
        except (EditError, AttributeError) as error:
            said = error.problems if isinstance(error, EditError) else [Problem(f"{record!r}", "a record", "write one")]
            problems += said
    return out
