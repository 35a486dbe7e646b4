"""The house rules, executed: layers, owners, sizes, names, slots, types, style, no pickle, nobody's folders.

Each rule lists its violations; an empty list is the only way to pass. Exceptions stand here with their reasons.
"""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import grimp
import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from embryo.core import schema

ROOT = Path(__file__).parents[1]
PACKAGE, TESTS = ROOT / "embryo", ROOT / "tests"
MODULES = sorted(PACKAGE.rglob("*.py"))
EVERY_FILE = [*MODULES, *sorted(TESTS.rglob("*.py"))]

LINES_PER_FILE, LINES_PER_FUNCTION = 400, 50

# Which part of the package may import a heavy library: everything else takes it from there.
OWNERS = {
    "pyvista": {"render"},
    "vtkmodules": {"render"},
    "vtk": {"render"},
    "imageio": {"render"},
    "matplotlib": {"render"},
    "torchdiffeq": {"simulate"},
    "ot": {"couple", "measure"},
    "squidpy": {"measure", "reconstruct"},
    "spatialdata": {"read"},
    "pooch": {"datasets"},
    "transformers": {"encoders"},
    "typer": {"cli"},
}
PICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
VAGUE = {"utils", "util", "helpers", "helper", "misc", "common", "tools", "stuff"}

# Modules without a test file of their own, and why.
UNMIRRORED = {
    "core/field.py": "a protocol without behaviour; every law in tests/fields keeps it",
    "measure/arrays.py": "refuses what is no cloud; every statistic in tests/measure passes through it",
    "measure/moment.py": "columns of the table in tests/measure/test_difference.py",
    "core/encoder.py": "a protocol without behaviour; every encoder in tests/encoders keeps it",
}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def run(*words: str, seconds: float = 300) -> subprocess.CompletedProcess:
    """Run a tool of this very environment; PATH is not asked."""
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
    )


def said(done: subprocess.CompletedProcess) -> str:
    return f"\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}"


# ---------------------------------------------------------------- tools


def test_layers_are_kept() -> None:
    done = run("-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())")
    assert done.returncode == 0, said(done)
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", done.stdout), said(done)


def test_ruff_finds_nothing() -> None:
    done = run("-m", "ruff", "check", ".")
    assert done.returncode == 0, said(done)


def test_files_are_formatted() -> None:
    done = run("-m", "ruff", "format", "--check", ".")
    assert done.returncode == 0, said(done)


def test_types_are_right() -> None:
    done = run("-m", "mypy", seconds=600)
    assert done.returncode == 0, said(done)


# ---------------------------------------------------------------- imports


def test_no_import_cycle() -> None:
    graph = grimp.build_graph("embryo", exclude_type_checking_imports=True, cache_dir=None)
    names = sorted(graph.modules)
    number = {module: k for k, module in enumerate(names)}
    edges = [(number[a], number[b]) for a in names for b in graph.find_modules_directly_imported_by(a) if a != "embryo"]
    rows, columns = np.array(edges).T
    matrix = sparse.coo_array((np.ones(len(edges)), (rows, columns)), shape=(len(names), len(names)))
    n, label = connected_components(matrix, directed=True, connection="strong")
    cycles = [[names[k] for k in np.flatnonzero(label == c)] for c in range(n)]
    assert [cycle for cycle in cycles if len(cycle) > 1] == []


def imported(path: Path) -> Iterator[str]:
    """Top-level packages that a file imports, anywhere in it."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def test_heavy_packages_have_one_owner() -> None:
    strays = [
        f"{name(path)} imports {package}, which belongs to {' and '.join(sorted(OWNERS[package]))}"
        for path in MODULES
        for package in sorted(set(imported(path)) & set(OWNERS))
        if path.relative_to(PACKAGE).parts[0].removesuffix(".py") not in OWNERS[package]
    ]
    assert strays == []


LIGHT = "heavy = {'torch', 'vtk', 'vtkmodules', 'pyvista', 'anndata', 'pandas', 'scipy'} & set(sys.modules)"


def test_import_embryo_is_light() -> None:
    done = run("-c", f"import sys, embryo; dir(embryo); {LIGHT}; print(sorted(heavy)); sys.exit(bool(heavy))")
    assert done.returncode == 0, said(done)


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["run", "--help"]])
def test_help_is_light(words: list[str]) -> None:
    script = f"""
import sys
sys.argv = ["embryo", *{words!r}]
from embryo.cli import main
try:
    code = main()
except SystemExit as stop:
    code = stop.code
{LIGHT}
print(sorted(heavy), code)
sys.exit(bool(heavy) or bool(code))
"""
    done = run("-c", script)
    assert done.returncode == 0, said(done)


# ---------------------------------------------------------------- sizes and names


def test_files_are_short() -> None:
    long = {name(path): n for path in EVERY_FILE if (n := len(path.read_text("utf-8").splitlines())) > LINES_PER_FILE}
    assert long == {}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from ``def`` to the end, without the docstring: that one may take the room it needs."""
    whole = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is None:
        return whole
    return whole - ((first.end_lineno or first.lineno) - first.lineno + 1)


def test_functions_are_short() -> None:
    long = {
        f"{name(p)}:{f.name}": length(f) for p in EVERY_FILE for f in functions(p) if length(f) > LINES_PER_FUNCTION
    }
    assert long == {}


def test_more_than_seven_parameters_say_why() -> None:
    """Ruff refuses them (PLR0913) unless the line is marked; a mark needs a reason."""
    silent = [
        f"{name(path)}:{k}"
        for path in MODULES
        for k, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(r"#\s*noqa:.*PLR0913\s*$", line)
    ]
    assert silent == []


def test_names_say_something() -> None:
    assert [name(p) for p in EVERY_FILE if {part.removesuffix(".py") for part in p.parts} & VAGUE] == []


# ---------------------------------------------------------------- slots

SLOTS = {v for k, v in vars(schema).items() if k.isupper() and isinstance(v, str)}
TELLING = {v for v in SLOTS if v.startswith(("X_", "spatial_"))}  # mean a slot wherever they stand
HOLDERS = {"obs", "var", "obsm", "varm", "layers", "uns", "obsp"}


def held(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in HOLDERS


def literals(path: Path) -> Iterator[ast.Constant]:
    """Yield text that names a slot: as an index, in ``get`` and ``in``, or telling by itself, not in docstrings."""
    prose = {id(n.value) for n in ast.walk(tree(path)) if isinstance(n, ast.Expr)}
    for node in ast.walk(tree(path)):
        used: list[ast.AST] = []
        if isinstance(node, ast.Subscript) and held(node.value):
            used = [node.slice]
        elif isinstance(node, ast.Compare) and any(map(held, node.comparators)):
            used = [node.left]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and held(node.func.value):
            used = list(node.args[:1])
        elif isinstance(node, ast.Constant) and node.value in TELLING and id(node) not in prose:
            used = [node]
        yield from (u for u in used if isinstance(u, ast.Constant) and u.value in SLOTS)


def test_slot_names_are_spelled_only_in_the_schema() -> None:
    assert {"X_embed", "X_panel", "spatial_aligned"} <= TELLING
    spelled = sorted(
        {f"{name(p)}:{c.lineno} {c.value!r}" for p in MODULES if p.name != "schema.py" for c in literals(p)}
    )
    assert spelled == []


# ---------------------------------------------------------------- safety


def unsafe(path: Path) -> Iterator[str]:
    """Ways to run foreign code while reading data."""
    yield from (f"import {package}" for package in imported(path) if package in PICKLERS)
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
        if call in {"eval", "exec", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"}:
            yield call
        if call.split(".")[-1] in {"read_pickle", "to_pickle"}:
            yield call
        if call == "torch.load" and given.get("weights_only") is not True:
            yield f"{call} without weights_only=True"
        if given.get("allow_pickle") is True or given.get("weights_only") is False:
            yield ast.unparse(node)


def test_nothing_is_pickled() -> None:
    assert [f"{name(path)}: {what}" for path in MODULES for what in unsafe(path)] == []


def kept() -> list[Path]:
    """Files that git keeps, or would; the package, its tests and the texts beside them where there is no git."""
    git = shutil.which("git")
    if git is not None and (ROOT / ".git").exists():
        words = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, check=True)
        return [ROOT / line for line in done.stdout.decode().split("\0") if line]
    return [*EVERY_FILE, *chain.from_iterable(ROOT.glob(f"*.{kind}") for kind in ("md", "toml"))]


def test_no_file_names_somebodys_folder() -> None:
    private = re.compile(r"(?<![\w.~])/(?:home|root|work|Users)/\w|\b[A-Z]:\\+Users")
    found = []
    for path in kept():
        try:
            lines = path.read_text("utf-8").splitlines()
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue
        found += [f"{name(path)}:{k} {line.strip()[:80]}" for k, line in enumerate(lines, 1) if private.search(line)]
    assert found == []


# ---------------------------------------------------------------- tests


def mirrors(path: Path) -> list[Path]:
    """Where the tests of a module may lie: its own file, or that of a folder that it is part of."""
    *folders, last = path.relative_to(PACKAGE).with_suffix("").parts
    if last == "__init__":
        last = folders[-1] if folders else "tree"
        folders = folders[:-1]
        beside = [TESTS.joinpath(*folders, last, f"test_{last}.py")]
    else:
        beside = []
    own = TESTS.joinpath(*folders, f"test_{last}.py")
    above = [TESTS.joinpath(*folders[:k], f"test_{folders[k]}.py") for k in range(len(folders))]
    inside = [TESTS.joinpath(*folders[: k + 1], f"test_{folders[k]}.py") for k in range(len(folders))]
    return [own, *beside, *above, *inside]


def named(path: Path) -> set[str]:
    """Return dotted names that a file imports: modules, and what it takes from them."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def handled_beside(path: Path) -> bool:
    """Whether a test of the same folder takes the module in its hands: small parts need no file of their own."""
    folders = path.relative_to(PACKAGE).parent.parts
    dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    beside = TESTS.joinpath(*folders).glob("test_*.py") if folders else ()
    return any(dotted in named(test) for test in beside)


def has_code(path: Path) -> bool:
    """Whether a file does anything but import, list names and explain."""
    plain = ast.Import | ast.ImportFrom | ast.Expr | ast.Assign | ast.AnnAssign
    return any(not isinstance(node, plain) for node in tree(path).body)


def test_every_module_has_its_tests() -> None:
    without = [
        name(path)
        for path in MODULES
        if has_code(path)
        and path.relative_to(PACKAGE).as_posix() not in UNMIRRORED
        and not any(mirror.exists() for mirror in mirrors(path))
        and not handled_beside(path)
    ]
    assert without == []


def test_the_exceptions_still_exist() -> None:
    assert [path for path in UNMIRRORED if not (PACKAGE / path).exists()] == []
    assert [path for path in UNMIRRORED if any(mirror.exists() for mirror in mirrors(PACKAGE / path))] == []


# ---------------------------------------------------------------- the rules themselves

BAD = '''
import pickle, torch, yaml
def long():
    """Say."""
{lines}
def read(adata, path):
    """Read ``obsm["X_embed"]``."""
    a = adata.obs["time"], adata.uns.get("embryo"), "spatial" in adata.obsm, "X_panel"
    return torch.load(path), yaml.load(path), np.load(path, allow_pickle=True), pd.read_pickle(path), a
def fine(adata, path):
    a = adata.obs["mine"], {{"time": "h"}}, adata.obs[schema.TIME], "time"
    return torch.load(path, weights_only=True), yaml.safe_load(path), np.load(path, allow_pickle=False), a
'''


def test_the_rules_catch_what_they_forbid(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text(BAD.format(lines="    x = 1\n" * 60))
    assert {f.name for f in functions(bad) if length(f) > LINES_PER_FUNCTION} == {"long"}
    assert [length(f) for f in functions(bad)] == [61, 3, 3]
    assert sorted(c.value for c in literals(bad)) == ["X_panel", "embryo", "spatial", "time"]
    assert [what.split("(")[0] for what in unsafe(bad)] == [
        "import pickle",
        "torch.load without weights_only=True",
        "yaml.load",
        "np.load",
        "pd.read_pickle",
    ]
    assert has_code(bad)
    assert set(imported(bad)) == {"pickle", "torch", "yaml"}
