import base64
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embryo.render import Card, Panel, RenderError, Report, Shot, Step, Table, picture, report, reports
from embryo.render.tables import decimals, number, sheet, text

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> &amp; {{ 7 * 7 }}"


class Page(HTMLParser):
    """All tags, their attributes, and the text of the page."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return "".join(self.words)


@pytest.fixture
def files(tmp_path):
    picture([Panel("a", np.eye(3) * 20)], tmp_path / "a.png", size=(300, 200))
    (tmp_path / "a.mp4").write_bytes(b"a film, for all the report knows")
    return tmp_path


def full(files, word="knockout"):
    frame = pd.DataFrame(
        {"model": [word, "stay"], "role": ["ours", "floor"], "value": [1.234567, 2.0], word: ["a", "b"]}
    )
    return Report(
        title=word,
        verdict=[word],
        done=[Step(word, word, 1.0)],
        tables=[Table(word, frame, word)],
        pictures=[Shot(files / "a.png", word, word)],
        films=[Shot(files / "a.mp4", word, word)],
        cards=[Card(word, word)],
        notes=[word],
        provenance={"seed": 0, word: word, "packages": {word: word}, "config": {"name": word}},
    )


def render(content, folder):
    return Page(report(content, folder / "out" / "report.html").read_text(encoding="utf-8"))


def test_the_page_is_self_contained(files):
    page = render(full(files), files)
    links = [
        value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href", "srcset")
    ]
    assert len(links) == 3
    assert all(link.startswith("data:") for link in links)
    assert not {"script", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    style = (files / "out" / "report.html").read_text().split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_pictures_and_films_are_inside_byte_for_byte(files):
    page = render(full(files), files)
    inside = {tag: base64.b64decode(a["src"].split(",", 1)[1]) for tag, a in page.tags if tag in ("img", "video")}
    assert inside == {"img": (files / "a.png").read_bytes(), "video": (files / "a.mp4").read_bytes()}
    assert all(a["alt"] for tag, a in page.tags if tag == "img")


def test_hostile_names_stay_words(files):
    plain, hostile = render(full(files), files), render(full(files, EVIL), files)
    assert [tag for tag, _ in plain.tags] == [tag for tag, _ in hostile.tags]
    assert not any(name.startswith("on") for _, attributes in hostile.tags for name in attributes)
    assert hostile.text.count(EVIL) == plain.text.count("knockout") >= 10


def test_what_matters_is_on_top_and_everything_is_there(files):
    content = Report(
        title="Knock-out of pha-4",
        verdict=["Our model does not beat the floor here."],
        notes=["install the Debian packages libegl1 libgl1"],
        done=[Step("fit", "1,500 steps", 185.0), Step("read", "8 embryos", 0.4)],
        cards=[Card("celegans", "Tracked.\n\nVectors are assembled across embryos.")],
        provenance={"seed": 7, "config": "name: demo\n", "commit": None},
    )
    words = render(content, files).text
    order = [
        "Our model does not beat",
        "libegl1 libgl1",
        "3 min 05 s",
        "0.4 s",
        "3 min 05 s in all",
        "assembled across",
        "name: demo",
    ]
    places = [words.index(part) for part in order]
    assert places == sorted(places)


def test_a_short_table_comes_first_and_all_sentences_folded_last(files):
    short = pd.DataFrame({"board": ["b", "c"], "verdict": ["worse", "worse"]})
    said = {"board b": ["One <thing>.", "Two."], "board c": ["One."], "board d": []}
    content = Report(title="t", standing=Table("Short", short), tables=[Table("Long", short)], notes=["n"], said=said)
    page = report(content, files / "r.html").read_text(encoding="utf-8")
    order = [page.index(words) for words in ("Short", "Mind", "Long", "board b: 2 sentences", "One &lt;thing&gt;.")]
    assert order == sorted(order)
    assert "board c: 1 sentence<" in page
    assert "board d" not in page
    assert page.count("<td>worse</td>") == 4  # a verdict is never said once for all rows
    assert "<details>" in page


def test_an_empty_report_is_a_page(files):
    page = render(Report("nothing"), files)
    assert "nothing" in page.text
    assert ("h1", {}) in page.tags


def test_ours_stands_out_and_floors_are_explained(files):
    page = render(full(files), files)
    assert [a["class"].strip() for tag, a in page.tags if tag == "tr" and "class" in a] == ["is-ours", "is-floor"]
    assert "has learned nothing useful here" in page.text
    assert "as good as the noise" not in page.text  # no ceiling in this table


def test_files_that_are_absent_are_named_at_once_and_nothing_is_written(files):
    shots = [Shot(files / "gone.png", ""), Shot(files / "a.mp4", ""), Shot(files / "odd.tiff", "")]
    with pytest.raises(RenderError) as error:
        report(Report("broken", pictures=shots), files / "out" / "report.html")
    assert "gone.png" in str(error.value)
    assert "odd.tiff" in str(error.value)
    assert not (files / "out").exists()


def test_a_failure_midway_leaves_the_old_report(files, monkeypatch):
    path = report(Report("old"), files / "out" / "report.html")
    before = path.read_bytes()

    def fails(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(reports.Path, "write_text", fails)
    with pytest.raises(KeyboardInterrupt):
        report(Report("new"), path)
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.234567, "1.23"), (12.34567, "12.3"), (123.4567, "123"), (123456.7, "123,457"), (0.01234, "0.0123"),
        (-0.5, "−0.500"), (3.2e-7, "3.2×10⁻⁷"), (1.5e12, "1.5×10¹²"), (0.0, "0"), (float("nan"), "–"),
        (float("-inf"), "−∞"), (None, "–"), (True, "yes"), (12345, "12,345"), (np.float32(2.5), "2.50"), ("a", "a"),
    ],
)  # fmt: skip
def test_numbers_have_sensible_digits(value, words):
    assert text(value) == words


@given(st.floats(1e-3, 9e6))
def test_three_digits_are_within_half_a_percent(value):
    printed = float(number(value, decimals(value)).replace(",", ""))
    assert printed == pytest.approx(value, rel=0.0051)


def test_a_table_says_constants_once_and_intervals_in_one_column():
    frame = pd.DataFrame(
        {
            "board": ["toy"] * 4, "metric": ["length"] * 2 + ["cells"] * 2, "value": [12.3456, 10.0, 3000.0, 2000.0],
            "low": [11.0, 9.0, np.nan, 1.0], "high": [13.0, 11.0, np.nan, 2.0], "n_seeds": [3] * 4,
            "unit": ["µm", "µm", "1", "1"],
        }
    )  # fmt: skip
    before = frame.copy()
    laid = sheet(frame)
    pd.testing.assert_frame_equal(frame, before)
    assert laid.constants == [("board", "toy"), ("seeds", "3")]
    assert [h.text for h in laid.heads] == ["metric", "value", "interval", "unit"]
    assert [c.text for c in laid.rows[0][2]] == ["length", "12.3", "11.0 to 13.0", "µm"]
    assert laid.rows[2][2][2].text == "–"
    assert [starts for _, starts, _ in laid.rows] == [False, False, True, False]


def test_long_and_wide_tables_do_not_break_the_page(files):
    frame = pd.DataFrame(np.ones((1000, 30)), columns=[f"c{i}" for i in range(30)])
    page = render(Report("long", tables=[Table("long", frame)]), files)
    assert "first 300 of 1,000 rows" in page.text
    assert sum(tag == "tr" for tag, _ in page.tags) == 301
    assert any(a.get("class") == "scroll wide" for tag, a in page.tags if tag == "div")
    empty = render(Report("empty", tables=[Table("empty", pd.DataFrame())]), files)
    assert "no rows" in empty.text
