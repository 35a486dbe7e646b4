import anndata as ad
import numpy as np
import pandas as pd
import pytest

from embryo import config
from embryo.core import schema
from embryo.core.errors import ConfigError
from embryo.pipeline import cells, frames, page, results, rollouts


def data(edited: bool = True) -> ad.AnnData:
    names = ["wt-0", "wt-1", "wt-2"] + ["ko-0"] * edited
    obs = pd.DataFrame([(e, t) for e in names for t in (0.0, 1.0, 2.0)], columns=[schema.EMBRYO, schema.TIME])
    obs[schema.PERTURBATION] = np.where(obs[schema.EMBRYO] == "ko-0", "knockout a", "")
    obs.index = obs.index.astype(str)
    return ad.AnnData(np.random.default_rng(0).random((len(obs), 4)).astype(np.float32), obs=obs)


@pytest.mark.parametrize(("hold_out", "held"), [(1, ["wt-2"]), (2, ["wt-1", "wt-2"]), (["wt-0"], ["wt-0"]), (0, [])])
def test_edited_embryos_are_never_trained_on_and_the_held_out_are_kept_apart(hold_out: object, held: list[str]) -> None:
    adata = data()
    adata.obs[cells.SPLIT] = cells._parts(adata, config.parse({"split": {"hold_out": hold_out}}))
    assert cells.embryos(adata, cells.HELD_OUT) == held
    assert cells.embryos(adata, cells.EDITED) == ["ko-0"]
    assert cells.embryos(adata, cells.TRAIN) == sorted({"wt-0", "wt-1", "wt-2"} - set(held))


@pytest.mark.parametrize(
    ("hold_out", "says"),
    [(["nobody"], "'nobody'"), (3, "3 of 3"), (["ko-0"], "'ko-0'")],
    ids=["unknown", "all", "edited"],
)
def test_a_split_that_cannot_be_is_refused(hold_out: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        cells._parts(data(), config.parse({"split": {"hold_out": hold_out}}))


def test_the_window_keeps_times_on_the_grid() -> None:
    kept = cells.window(data(), config.parse({"read": {"start_h": 1, "every_h": 2}}).read)
    assert set(kept.obs[schema.TIME]) == {2.0}


def test_the_panel_holds_the_edited_genes_and_the_data_s_own_list() -> None:
    adata = data()
    adata.var_names = ["a", "b", "c", "d"]
    adata.uns[schema.META] = {"circuit_genes": np.array(["c", "b"]), "expression": "relative"}
    edits = {"perturb": {"edits": [{"gene": "d"}]}}
    assert cells.panel(adata, config.parse(edits)) == ["c", "b", "d"]
    assert cells.panel(adata, config.parse({**edits, "embed": {"panel": ["a"]}})) == ["a", "d"]
    del adata.uns[schema.META]["circuit_genes"]
    assert cells.panel(adata, config.parse(edits)) == ["a", "b", "c", "d"]


def test_roll_outs_keep_their_start_their_end_the_grid_and_the_horizons() -> None:
    adata = data()
    adata.obs[cells.SPLIT] = cells._parts(adata, config.parse({"split": {"hold_out": 1}}))
    c = config.parse({"measure": {"horizons_h": [0.3, 9]}, "simulate": {"save_every_h": 0.5}, "split": {"end_h": 1.2}})
    assert rollouts.times_h(adata, c, "wt-2") == [0.0, 0.3, 0.5, 1.0, 1.2]


def test_fixed_embryos_of_later_stages_are_no_starts() -> None:
    obs = pd.DataFrame({
        schema.EMBRYO: ["a", "b", "late", "film", "film", "train"],
        schema.TIME: [0.0, 0.0, 5.0, 1.0, 2.0, 0.0],
        cells.SPLIT: [cells.HELD_OUT] * 5 + [cells.TRAIN],
    }, index=[f"c{k}" for k in range(6)])  # fmt: skip
    assert rollouts.targets(ad.AnnData(np.ones((6, 1), np.float32), obs=obs)) == ["a", "b", "film"]


def test_embryos_that_lie_as_they_fell_are_not_turned() -> None:
    x = np.random.default_rng(0).normal(size=(20, 3)) + 9
    obs = pd.DataFrame({schema.EMBRYO: np.repeat(["a", "b"], 10), schema.TIME: 0.0}, index=[f"c{k}" for k in range(20)])
    fallen = config.parse({"fit": {"structure": "circuit", "posed": False}})
    train, new = (ad.AnnData(np.ones((20, 1), np.float32), obs=obs.copy(), obsm={schema.SPATIAL: x}) for _ in "ab")
    assert "as they lie" in cells.align(train, fallen)
    frames.lay_on(train, new)
    for adata in (train, new):
        np.testing.assert_allclose(adata.obsm[schema.ALIGNED][:10], x[:10] - x[:10].mean(axis=0))


def test_fixed_embryos_of_later_stages_are_laid_by_their_own_first_stage() -> None:
    rng = np.random.default_rng(0)
    shape = rng.normal(size=(60, 3)) * [9, 4, 2] + rng.exponential(size=(60, 3))
    turned = shape @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turned = turned if np.linalg.det(np.linalg.lstsq(shape, turned)[0]) > 0 else -turned
    obs = pd.DataFrame({
        schema.EMBRYO: np.repeat(["a", "a", "late"], 60), schema.TIME: np.repeat([0.0, 1.0, 1.0], 60),
        cells.SPLIT: np.repeat([cells.TRAIN, cells.TRAIN, cells.EDITED], 60),
    }, index=[f"c{k}" for k in range(180)])  # fmt: skip
    x = np.concatenate([shape, shape, turned + 5])
    genes = np.tile(np.log1p(np.abs(shape)), (3, 1)).astype(np.float32)
    adata = ad.AnnData(genes, obs=obs, obsm={schema.SPATIAL: x})
    adata.uns[schema.META] = {"frame": "raw", "space_unit": "um", "time_unit": "h", "expression": "log1p"}
    cells.align(adata, config.parse({}))
    np.testing.assert_allclose(adata.obsm[schema.ALIGNED][120:], adata.obsm[schema.ALIGNED][60:120], atol=1.0)


def test_knock_outs_of_one_stage_tell_a_circuit_nothing() -> None:
    obs = pd.DataFrame({
        schema.PERTURBATION: ["knockout a", "knockout b", "knockout b"], schema.TIME: [1.0, 1.0, 2.0]
    }, index=["x", "y", "z"])  # fmt: skip
    adata = ad.AnnData(np.ones((3, 1), np.float32), obs=obs)
    told = {"structure": "circuit", "knockouts": ["knockout b"]}
    assert list(cells.learned(adata, config.parse({"fit": told}))) == ["knockout b"]
    with pytest.raises(ConfigError, match="seen at 1 h only"):
        cells.learned(adata, config.parse({"fit": told | {"knockouts": ["knockout a", "knockout b"]}}))


def test_what_only_a_circuit_has_is_refused_elsewhere() -> None:
    with pytest.raises(ConfigError, match=r"fit\.bootstrap"):
        config.parse({"fit": {"bootstrap": True}})
    given = ({"posed": False}, {"marginal_steps": 5}, {"knockouts": ["knockout a"]}, {"prior": [["a", "b"]]})
    given += ({"forces": True}, {"ligands": ["a"]}, {"cycling": ["a"]})
    for fit in given:
        with pytest.raises(ConfigError, match="a circuit"):
            config.parse({"fit": fit})
        for structure in ("circuit", "circuit+residual"):
            assert config.parse({"fit": {**fit, "structure": structure}}).fit.structure == structure


@pytest.mark.parametrize(
    ("fit", "words"),
    [
        ({"sticky": ["a"], "motile": ["b"]}, r"fit\.sticky, fit\.motile without forces"),
        ({"forces": True, "posed": False}, r"fit\.forces with fit\.posed = false"),
        ({"cycling": ["a"], "posed": False}, r"fit\.cycling with fit\.posed = false"),
    ],
)
def test_keys_that_the_law_would_not_read_are_refused(fit: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config.parse({"fit": {**fit, "structure": "circuit"}})


def test_a_bootstrap_needs_further_seeds_to_draw_for() -> None:
    drawn = {"structure": "circuit", "bootstrap": True}
    with pytest.raises(ConfigError, match="one seed"):
        config.parse({"seeds": 1, "fit": drawn})
    assert config.parse({"seeds": 2, "fit": drawn}).fit.bootstrap


@pytest.mark.parametrize("structure", ["circuit", "circuit+residual", "network"])
def test_levels_are_shrunk_for_every_law_with_a_circuit(structure: str) -> None:
    assert cells.shrinks(config.parse({"fit": {"structure": structure}})) == structure.startswith("circuit")


def test_the_head_of_the_page_counts_what_was_beaten() -> None:
    lost, won = "x, t: not better than “f” (...).", "y, t: better than “f” (...)."
    assert "does not beat" in page.verdict({"a": [lost]})[0]
    assert "better on 1 of 2" in page.verdict({"a": [lost], "b": [won]})[0]
    assert "nothing here is validated" in page.verdict({})[0]


def test_curves_carry_the_spread_of_embryos_around_control_and_edit() -> None:
    rows = [
        {"role": "control", "model": "m", "metric": "cells", "value": 10.0, "low": 0.0, "high": 0.0, "time_h": 1.0},
        {
            "role": "repeat",
            "model": "wild-type embryos",
            "metric": "cells",
            "value": 1.0,
            "low": -2.0,
            "high": 2.0,
            "time_h": 1.0,
        },
        {
            "role": "repeat",
            "model": "wild-type seeds",
            "metric": "cells",
            "value": 1.0,
            "low": -9.0,
            "high": 9.0,
            "time_h": 1.0,
        },
    ]
    rows.append({**rows[0], "metric": "fraction[never there]", "value": 0.0})
    few = pd.DataFrame(rows[:2]).replace({"value": {10.0: 1.5}})
    assert results.curve_table(few)["low"].tolist() == [0.0]  # nobody has fewer cells than none
    (row,) = results.curve_table(pd.DataFrame(rows)).to_dict("records")
    assert (row["model"], row["low"], row["high"]) == ("control", 8.0, 12.0)


def test_vectors_assembled_with_a_held_out_embryo_are_refused() -> None:
    adata = data(edited=False)
    adata.obs[cells.SPLIT] = cells._parts(adata, config.parse({"split": {"hold_out": 1}}))
    adata.uns[schema.META] = {"assembled": True, "held_out": ["wt-0"]}
    with pytest.raises(ConfigError, match="assembled with held-out embryos: wt-2"):
        cells._require_kept_apart(adata)
    adata.uns[schema.META]["held_out"] = ["wt-2"]
    cells._require_kept_apart(adata)


def test_the_worm_converter_is_told_what_it_must_not_know() -> None:
    c = config.parse({"read": {"dataset": "celegans-epic"}, "split": {"hold_out": ["a"], "start_h": 1.5}})
    assert cells._with_split(c) == {"held_out": ["a"], "synchronise_until_h": 1.5}


@pytest.mark.parametrize(
    "params", [{"n_embryos": "abc"}, {"times_h": "foo"}, {"dials": 1}, {"measurement": {"genes": 3}}]
)
def test_bad_dials_of_the_synthetic_embryo_are_told(params: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"read\.params"):
        cells.load(config.parse({"read": {"params": params}}))


def test_a_split_that_cannot_be_is_refused_before_embryos_are_made() -> None:
    with pytest.raises(ConfigError, match="6 of 6"):
        cells.load(config.parse({"split": {"hold_out": 6}}))
