from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from embryo import config, encoders
from embryo.core.errors import ConfigError

CONFIGS = Path(__file__).parents[1] / "configs"


@given(
    steps=st.integers(1, 10**6),
    weight=st.floats(0, 1),
    panel=st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4),
)
def test_config_to_yaml_to_config_is_identity(steps: int, weight: float, panel: list[str]) -> None:
    tree = {"fit": {"steps": steps}, "couple": {"space_weight": weight}, "embed": {"panel": panel}}
    first = config.parse(tree)
    assert config.parse(yaml.safe_load(config.dump(first))) == first


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_configs_are_valid_and_hold_departures_only(path: Path) -> None:
    tree = yaml.safe_load(path.read_text()) or {}
    loaded = config.load(path)
    default = config.Config().model_dump(mode="json")
    same = [
        f"{section}.{key}"
        for section, values in tree.items()
        if isinstance(values, dict)
        for key, value in values.items()
        if default[section].get(key) == value
    ]
    assert not same
    assert loaded != config.Config() or path.name == "demo.yaml"


def test_all_problems_of_a_config_at_once() -> None:
    tree = {"fit": {"steps": 0, "stepz": 3}, "couple": {"space_weight": 2}, "colour": 1}
    with pytest.raises(ConfigError) as error:
        config.parse(tree)
    text = str(error.value)
    assert "4 problems" in text
    for words in (
        "fit.steps = 0",
        "unknown key 'fit.stepz'",
        "one of: steps, batch",
        "couple.space_weight = 2",
        "unknown key 'colour'",
    ):
        assert words in text


def test_bad_edits_are_told_by_the_config() -> None:
    with pytest.raises(ConfigError, match=r"(?s)perturb\.edits.*unknown key 'dosage'"):
        config.parse({"perturb": {"edits": [{"gene": "a", "dosage": 1}]}})


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("fit:\n  steps: 7\n  width: 9\n")
    loaded = config.load(file, ("fit.steps=11", "embed.panel=[a, b]", "read.dataset=null"))
    assert (loaded.fit.steps, loaded.fit.width, loaded.embed.panel, loaded.read.dataset) == (11, 9, ["a", "b"], None)


@pytest.mark.parametrize(
    ("text", "words"),
    [("fit: [", "not YAML"), ("- 1", "a list"), ("\x00", "not YAML")],
    ids=["broken", "list", "binary"],
)
def test_files_that_are_not_configs(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        config.load(file)


@pytest.mark.parametrize("override", ["fit.steps", "=3", "name.x=1", "fit.steps=[1"])
def test_bad_overrides(override: str) -> None:
    with pytest.raises(ConfigError, match="override"):
        config.load(None, ("name=a", override))


def test_missing_file_and_two_sources() -> None:
    with pytest.raises(ConfigError, match="no file"):
        config.load(Path("nowhere.yaml"))
    with pytest.raises(ConfigError, match=r"both read\.path and read\.dataset"):
        config.parse({"read": {"path": "a.h5ad", "dataset": "emt"}})


def test_every_encoder_can_be_named() -> None:
    assert (*get_args(config.Fitted), *get_args(config.Pretrained)) == encoders.names()
    assert get_args(config.Pretrained) == encoders.pretrained_names()
