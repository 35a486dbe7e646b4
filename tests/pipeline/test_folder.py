import json
from pathlib import Path

import pytest

from embryo import config, pipeline
from embryo.core.errors import StoreError
from embryo.pipeline import plan
from embryo.pipeline.folder import RunFolder, contents, fingerprint

CONFIG = config.Config(name="t")


def write(run: RunFolder, name: str) -> tuple[list[str], str]:
    (run.path / name).write_text("x")
    return [name], f"wrote {name}"


def test_a_stage_runs_once_and_again_when_its_config_or_output_is_gone(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", CONFIG)
    assert run.do("one", "f1", lambda: write(run, "a"))
    assert not run.do("one", "f1", lambda: pytest.fail("done already"))
    assert run.do("one", "f2", lambda: write(run, "a"))
    (run.path / "a").unlink()
    assert run.do("one", "f2", lambda: write(run, "a"))


def test_an_interrupted_stage_is_not_done_and_those_before_it_are(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", CONFIG)
    run.do("one", "f", lambda: write(run, "a"))

    def interrupted() -> tuple[list[str], str]:
        (run.path / "b").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.do("two", "g", interrupted)
    again = RunFolder.create(tmp_path / "run", CONFIG)
    assert again.done("one", "f")
    assert not again.done("two", "g")
    assert again.do("two", "g", lambda: write(again, "b"))


def failing(run: RunFolder) -> tuple[list[str], str]:
    (run.path / "a").write_text("half")
    raise ZeroDivisionError


def test_a_redone_stage_that_fails_leaves_what_was_there_and_its_config(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", CONFIG)
    for stage, file in (("one", "a"), ("two", "b")):
        run.do(stage, "old", lambda file=file: write(run, file))
    other = RunFolder.create(tmp_path / "run", config.Config(name="other"))
    with pytest.raises(ZeroDivisionError):
        other.do("one", "new", lambda: failing(other))
    left = RunFolder.open(tmp_path / "run")
    assert left.config.name == left.manifest["name"] == "t"
    assert left.done("one", "old")
    assert left.done("two", "old")
    assert not left.done("one", "new")
    assert [(run.path / file).read_text() for file in "ab"] == ["x", "x"]
    assert sorted(p.name for p in run.path.iterdir()) == ["a", "b", "config.yaml", "run.json"]
    other.do("one", "new", lambda: write(other, "a"))
    assert RunFolder.open(tmp_path / "run").config.name == "other"


def test_what_a_killed_process_had_set_aside_is_put_back(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", CONFIG)
    run.do("one", "old", lambda: write(run, "a"))
    run._set_aside(["one"])
    failing_left = run.path / "a"
    failing_left.write_text("half")
    again = RunFolder.create(tmp_path / "run", CONFIG)
    assert again.done("one", "old")
    assert failing_left.read_text() == "x"


def test_paths_mean_the_same_from_every_directory_and_a_source_that_is_gone_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.csv").write_text("1")
    monkeypatch.chdir(tmp_path)
    given = config.parse({"read": {"path": "mine.csv", "dataset": None}})
    run = RunFolder.create(tmp_path / "run", given)
    assert run.config.read.path == RunFolder.open(run.path).config.read.path == tmp_path / "mine.csv"
    before = plan.fingerprints(run)["read"]
    run.used("read", contents(run.config.read.path))
    run.sign()
    assert run.manifest["provenance"]["config"]["read"]["path"] == "mine.csv"
    (tmp_path / "mine.csv").unlink()
    assert plan.fingerprints(run)["read"] == before
    (tmp_path / "mine.csv").write_text("2")
    assert plan.fingerprints(run)["read"] != before
    assert plan.fingerprints(run, as_used=True)["read"] == before


def test_the_fingerprint_is_of_everything_before() -> None:
    assert fingerprint("a", {"x": 1}) == fingerprint("a", {"x": 1})
    assert len({fingerprint("a", {"x": 1}), fingerprint("b", {"x": 1}), fingerprint("a", {"x": 2})}) == 3


def test_a_run_can_be_opened_again_and_keeps_its_config(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", CONFIG)
    assert RunFolder.open(tmp_path / "run").config == CONFIG
    assert "not done: read" in pipeline.show(tmp_path / "run")


def test_stages_of_another_config_are_forgotten(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", CONFIG)
    run.do("fit seed 9", "f", lambda: write(run, "a"))
    run.forget_others(["read", "fit seed 0"])
    assert not run.stages


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "run.json"),
        ('{"format": "other"}', "another kind"),
        ('{"format": "embryo-run", "version": 99}', "version 99"),
    ],
    ids=["cut", "foreign", "of the future"],
)
def test_folders_that_are_not_runs(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "run.json").write_text(text)
    for use in (RunFolder.open, lambda p: RunFolder.create(p, CONFIG)):
        with pytest.raises(StoreError, match=says):
            use(tmp_path)
    assert (tmp_path / "run.json").read_text() == text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.json"]


def test_missing_file_and_other_content(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nothing at 'nowhere'"):
        RunFolder.open(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="a file 'file'"):
        RunFolder.create(tmp_path / "file", CONFIG)
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(StoreError, match=r"a folder without run\.json"):
        RunFolder.create(tmp_path, CONFIG)


def test_a_folder_made_for_nothing_is_removed(tmp_path: Path) -> None:
    absent = config.parse({"read": {"path": str(tmp_path / "absent.csv"), "dataset": None}})
    with pytest.raises(StoreError, match="found nothing"):
        pipeline.run(absent, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(StoreError, match="found nothing"):
        pipeline.run(absent, tmp_path / "mine")
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_further_seed_is_kept_when_what_follows_it_is_redone(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", CONFIG)
    run.order = ["fit seed 0", "simulate"]
    for stage, file in (("fit seed 0", "a"), ("simulate", "b")):
        run.do(stage, "f", lambda file=file: write(run, file))
    more = RunFolder.create(tmp_path / "run", CONFIG)
    more.order = ["fit seed 0", "fit seed 1", "simulate"]
    for stage, mark, file in (("fit seed 0", "f", "a"), ("fit seed 1", "g", "c"), ("simulate", "h", "b")):
        more.do(stage, mark, lambda file=file: write(more, file))
    assert list(more.stages) == more.order


def test_the_manifest_is_plain_json(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", CONFIG)
    run.do("one", "f", lambda: write(run, "a"))
    run.sign({"set": "sum"})
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["stages"]["one"]["summary"] == "wrote a"
    assert record["provenance"]["datasets"] == {"set": "sum"}


def test_redoing_a_stage_forgets_what_came_after_it_and_its_files(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", CONFIG)
    for stage, file in (("one", "a"), ("two", "b"), ("three", "c")):
        run.do(stage, "f", lambda file=file: write(run, file))
    run.do("two", "g", lambda: write(run, "d"))
    assert list(run.stages) == ["one", "two"]
    assert sorted(p.name for p in run.path.iterdir()) == ["a", "config.yaml", "d", "run.json"]


def test_a_changed_input_has_other_contents(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("1")
    before = contents(file)
    file.write_text("2")
    assert contents(file) != before
    assert contents(None) == contents(tmp_path / "absent") == ""
