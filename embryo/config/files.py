"""Config files: read, overridden, checked, written; every problem of one at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import ValidationError

from embryo.config.sections import Config, Pretrained, Section
from embryo.core.checks import phrases
from embryo.core.errors import ConfigError, EmbryoError, Problem

_S = TypeVar("_S", bound=Section)


def load(path: Path | None = None, overrides: tuple[str, ...] = ()) -> Config:
    """Read a config file and apply ``section.key=value`` overrides.

    Parameters
    ----------
    path
        YAML file with departures from the defaults; None for the defaults.
    overrides
        Such as ``fit.steps=500``; values are YAML.

    Raises
    ------
    ConfigError
        Listing every unknown key and bad value at once.
    """
    tree = read_yaml(path) if path is not None else {}
    subject = str(path.name) if path is not None else "overrides"
    for text in overrides:
        override(tree, text)
    return parse(tree, subject=subject)


def source(path: Path | None, overrides: tuple[str, ...] = ()) -> Config:
    """Return the config that `path` holds, or one that reads the cells of the file or folder `path` with the defaults.

    Cells given as they are come without a split and without an edit: all of them are fitted on.

    Raises
    ------
    ConfigError
        As `load`.
    """
    if path is None or path.suffix in (".yaml", ".yml"):
        return load(path, overrides)
    tree: dict[str, Any] = {
        "name": path.stem,
        "read": {"dataset": None, "path": str(path)},
        "split": {"hold_out": 0},
        "perturb": {"edits": []},
    }
    for text in overrides:
        override(tree, text)
    return parse(tree, subject=path.name)


def parse(tree: dict[str, Any], *, subject: str = "config") -> Config:
    """Check a nested dict and return the config; see `load`."""
    config = section(Config, tree, subject=subject)
    try:
        config.perturb.records()
    except EmbryoError as error:
        raise ConfigError(*error.problems, subject=f"{subject}: perturb.edits") from error
    if config.embed.encoder in get_args(Pretrained) and config.embed.weights is None:
        raise ConfigError(
            Problem(
                f"embed.encoder = {config.embed.encoder} without embed.weights",
                "the folder with its files",
                f"download them (embryo encoders card {config.embed.encoder} says where) and name the folder",
            ),
            subject=subject,
        )
    if problems := _without_effect(config):
        raise ConfigError(*problems, subject=subject)
    if config.fit.smooth and config.fit.geodesic is not None:
        raise ConfigError(
            Problem("both fit.smooth and fit.geodesic", "one shape of the paths", "remove one of them"), subject=subject
        )
    if config.read.path is not None and config.read.dataset not in (None, "synthetic"):
        raise ConfigError(
            Problem("both read.path and read.dataset", "one source of cells", "remove one of them"), subject=subject
        )
    return config


def _without_effect(config: Config) -> list[Problem]:
    """Return what the law that the config asks for would not read."""
    f, problems = config.fit, []
    if f.structure != "network" and f.neighbours:
        found = f"fit.structure = {f.structure} with fit.neighbours"
        problems.append(Problem(found, "one kind of law", "set fit.neighbours to 0"))
    own = {"fit.marginal_steps": f.marginal_steps, "fit.posed": not f.posed, "fit.knockouts": f.knockouts}
    own |= {"fit.prior": f.prior, "fit.forces": f.forces, "embed.velocity_per_h": config.embed.velocity_per_h}
    own |= {"fit.ligands": f.ligands, "fit.cycling": f.cycling}
    if not f.structure.startswith("circuit") and any(own.values()):
        found = f"fit.structure = {f.structure} with {', '.join(key for key, given in own.items() if given)}"
        problems.append(Problem(found, "a circuit", "set fit.structure to circuit"))
    if f.structure == "network" and f.bootstrap:
        found = "fit.structure = network with fit.bootstrap"
        problems.append(Problem(found, "a law fitted without couplings", "set fit.structure"))
    if f.bootstrap and config.seeds < 2:
        problems.append(Problem("fit.bootstrap with one seed", "further seeds, which it draws for", "set seeds to 2"))
    named = {"fit.sticky": f.sticky, "fit.motile": f.motile}
    if not f.forces and any(named.values()):
        found = f"{', '.join(key for key, given in named.items() if given)} without forces"
        problems.append(Problem(found, "fit.forces = true", "set it, or name no genes"))
    whole = {"fit.forces": f.forces, "fit.cycling": f.cycling}
    if not f.posed and any(whole.values()):
        found = f"{', '.join(key for key, given in whole.items() if given)} with fit.posed = false"
        problems.append(Problem(found, "embryos in one pose", "remove it, or set fit.posed to true"))
    return problems


def section(kind: type[_S], tree: Mapping[str, Any], *, subject: str) -> _S:
    """Check a nested dict against one section; see `load`."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(*(_problem(kind, e) for e in error.errors()), subject=subject) from error


def dump(config: Config) -> str:
    """Return the resolved config as YAML; `load` of it gives the same config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=False)


def rooted(config: Config) -> Config:
    """Return the config with absolute paths, which mean the same from every directory."""
    read, e = config.read, config.embed
    given = {"weights": e.weights, "orthologs": e.orthologs}
    absolute = {name: path and path.expanduser().absolute() for name, path in given.items()}
    path = {"path": read.path and read.path.expanduser().absolute()}
    return config.model_copy(
        update={"read": read.model_copy(update=path), "embed": e.model_copy(update=absolute)},
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that a config file holds; `ConfigError` where there is no such file, or it is no mapping."""
    cure = "give a YAML file such as configs/demo.yaml"
    if not path.is_file():
        raise ConfigError(Problem(f"no file {path.name!r}", "a config file", cure), subject="config")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        at = f" (line {where.line + 1}, column {where.column + 1})" if where else ""
        raise ConfigError(Problem(f"text that is not YAML{at}", "YAML", cure), subject=path.name) from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(Problem(f"a {type(tree).__name__}", "sections such as read:, fit:", cure), subject=path.name)
    return tree


def override(tree: dict[str, Any], text: str) -> None:
    """Set what ``section.key=value`` says in a nested dict; the value is YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(Problem(f"override {text!r}", "section.key=value", "write for example fit.steps=500"))
    *sections, last = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(Problem(f"override {text!r}", f"{section!r} to be a section", "see configs/demo.yaml"))
    try:
        tree[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(Problem(f"override {text!r}", "a YAML value after =", "quote it")) from error


def _problem(kind: type[Section], error: Any) -> Problem:
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        section: Any = kind
        for part in error["loc"][:-1]:
            section = getattr(section, "model_fields", {}).get(part)
            section = getattr(section, "annotation", section)
        known = list(getattr(section, "model_fields", {}))
        near = phrases.nearest(str(error["loc"][-1]), known)
        return Problem(f"unknown key {where!r}{near}", f"one of: {', '.join(known)}", "remove or rename it")
    return Problem(f"{where} = {error['input']!r}", error["msg"], f"change {where}")
