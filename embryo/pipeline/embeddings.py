"""The sceptical evaluation of embeddings as one job: boards, models, seeds -> a table and a page, resumed where it was.

::

    out/
        config.yaml             the resolved config
        embeddings/BOARD/       one safetensors file per model and seed
        boards/BOARD.csv .json  what was found on a board, and the sentences
        table.csv report.md report.html
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from anndata import AnnData
from pydantic import Field
from threadpoolctl import threadpool_limits

from embryo import config as configs
from embryo import evaluate
from embryo.config import Section
from embryo.core import schema, store
from embryo.core.errors import ConfigError, EmbryoError, Problem
from embryo.encoders.facts.leaks import Protected
from embryo.pipeline import boards, candidates, chosen, embedding_page, pages, places
from embryo.pipeline.boards import Board
from embryo.pipeline.candidates import Candidate
from embryo.pipeline.folder import cells_digest, contents, fingerprint
from embryo.pipeline.rollouts import Tick

_LEAST_SEEDS = 5


class Embeddings(Section):
    """What to judge, and on what. The floors (PCA, HVG, guesses, random weights) are always there."""

    name: str = "embeddings"
    seed: int = 0
    seeds: int = Field(5, ge=_LEAST_SEEDS, description="draws of random weights, clusters, thinning and shuffles")
    models: list[Candidate] = Field(default_factory=list)
    fitted: list[str] = Field(default_factory=list, description="further floors fitted like PCA, such as scvi (slow)")
    neighbours: int = Field(15, ge=1)
    pca: int = Field(50, ge=1)
    hvg: int = Field(2000, ge=1)
    boards: list[Board] = Field(min_length=1)


def load(path: Path) -> Embeddings:
    """Read the config of an evaluation.

    Raises
    ------
    ConfigError
        Listing every unknown key and bad value at once, and boards or models that are called alike.
    """
    config = configs.section(Embeddings, configs.read_yaml(path), subject=path.name)
    names = {"board": [b.name for b in config.boards], "model": [m.encoder for m in config.models]}
    twice = [problem for what, given in names.items() for problem in places.alike(given, what)]
    absent = [
        Problem(f"no folder {str(m.weights)!r} for {m.encoder}", "the folder with its files", "correct models.weights")
        for m in config.models
        if m.weights is not None and not m.weights.is_dir()
    ]
    if twice or absent:
        raise ConfigError(*twice, *absent, subject=path.name)
    return config


def run(
    config: Embeddings, out: Path, *, tick: Tick | None = None, said: Callable[[str, str], None] | None = None
) -> Path:
    """Judge all models on all boards; what the same code did before with the same config and files is not done again.

    Parameters
    ----------
    config
        What to judge.
    out
        Folder for the results; made if absent.
    tick
        Called with (what, done, of) while work goes on.
    said
        Called with (board, summary) when a board is done.

    Returns
    -------
    Path
        The page, ``report.md``; ``report.html``, ``table.csv`` lie beside it.

    Raises
    ------
    EmbryoError
        If a board cannot be read. A model that cannot read a board is told on the page, and does not stop the others.
    """

    def judged(board: Board, commit: str) -> embedding_page.Found:
        return _Job(config, board, out, commit, tick or (lambda *_: None)).run()

    return pages.judge(config, out, embedding_page, judged, said=said, require=evaluate.require_floors)


@dataclass
class _Job:
    """One board."""

    config: Embeddings
    board: Board
    out: Path
    commit: str  # what another commit made is made again, so that the page's commit is true
    tick: Tick
    models: list[embedding_page.Model] = field(default_factory=list)
    unread: dict[str, list[str]] = field(default_factory=dict)  # reason -> models

    def run(self) -> embedding_page.Found:
        """Read, embed and judge."""
        loaded = boards.load(self.board, self.config.seed)
        pages.keep_config(self.config, self.out)
        digest = cells_digest(loaded.cells)
        judged = self._embeddings(loaded.cells, digest)
        task = self.board.task(self.config.neighbours, self.config.pca, self.config.hvg)
        marks = [(e.name, [hashlib.sha256(z.tobytes()).hexdigest() for z in e.z]) for e in judged]
        mark = fingerprint(self.commit, digest, vars(task), self.config.seeds, self.config.fitted, marks)
        paths = [self.out / "boards" / f"{places.slug(self.board.name)}.{kind}" for kind in ("csv", "json")]
        if paths[1].is_file() and store.read_json(paths[1]).get("fingerprint") == mark and paths[0].is_file():
            rows, sentences = store.read_table(paths[0]), store.read_json(paths[1])["sentences"]
        else:
            with threadpool_limits(1):  # many small fits: threads would only wait for each other
                result = evaluate.embedding(
                    judged, loaded.cells, task, fitted=self.config.fitted, seeds=self.config.seeds, tick=self.tick
                )
            rows, sentences = result.table, list(result.sentences)
            store.write_table(rows, paths[0])
            store.write_json({"fingerprint": mark, "sentences": sentences}, paths[1])
        facts = (loaded.cells.n_obs, loaded.cells.n_vars, str(schema.meta(loaded.cells).get("organism", "")))
        models, unread = tuple(self.models), tuple(f"{', '.join(n)}: {why}." for why, n in self.unread.items())
        return embedding_page.Found(
            self.board.name, facts, digest, rows, tuple(sentences), loaded.notes, models, unread
        )

    def _embeddings(self, adata: AnnData, digest: str) -> list[evaluate.Embedding]:
        self._protected(adata)  # a config that is wrong stops the run, and is no model's fault
        out = []
        jobs = [(one, kind) for one in self.config.models for kind in candidates.kinds(one)]
        for k, (one, kind) in enumerate(jobs):
            if kind == "pretrained" or one.weights is None:
                reason = candidates.cannot_read(one, adata)
                self._unread(reason, one.encoder)
            seeds = range(self.config.seeds) if kind == "random" else range(1)
            try:
                made = [self._embedding(one, kind, self.config.seed + s, adata, digest) for s in seeds]
            except (EmbryoError, ModuleNotFoundError) as error:
                what = "random weights" if kind == "random" else "pretrained weights"
                cannot = "is not judged on" if isinstance(error, ConfigError) else "cannot read"
                self._unread(f"{cannot} this board with {what}: {_reason(error)}", one.encoder)
                continue
            finally:
                self.tick(f"{self.board.name}: embedding", k + 1, len(jobs))
            out.append(evaluate.Embedding(one.encoder, kind, tuple(m.z for m in made)))
            self.models.append(embedding_page.Model(out[-1].name, made[0].z.shape[1], made[0].provenance))
        return out

    def _protected(self, adata: AnnData) -> Protected:
        return chosen.protected(
            self.board.protect, schema.meta(adata).get("organism"), subject=f"board {self.board.name}"
        )

    def _unread(self, reason: str | None, encoder: str) -> None:
        if reason is not None:
            self.unread.setdefault(reason, []).append(encoder)

    def _embedding(
        self, one: Candidate, kind: candidates.Kind, seed: int, adata: AnnData, digest: str
    ) -> candidates.Made:
        import torch  # noqa: PLC0415  heavy

        protect = self.board.protect
        how = [one.model_dump(mode="json"), protect.model_dump(mode="json")]
        mark = fingerprint(self.commit, digest, how, contents(one.weights), kind, seed)
        path = self.out / "embeddings" / places.slug(self.board.name) / f"{one.encoder}-{kind}-{seed}.safetensors"
        if path.is_file():
            tensors, meta = store.read_tensors(path)
            if meta.get("fingerprint") == mark:
                return candidates.Made(tensors["z"].numpy(), meta["provenance"])
        made = candidates.embed(one, adata, kind, seed, self._protected(adata), allow_leaks=protect.allow)
        record = {"fingerprint": mark, "provenance": made.provenance}
        store.write_tensors(path, {"z": torch.as_tensor(made.z)}, record)
        return made


def _reason(error: Exception) -> str:
    if isinstance(error, EmbryoError):
        return "; ".join(f"{p.found} (expected {p.expected})" for p in error.problems)
    return str(error)
