import functools
import hashlib
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from embryo.core.errors import DataError
from embryo.datasets import fetch, locate
from embryo.datasets.registry import Dataset, File
from embryo.datasets.transfer import CACHE_VARIABLE, MIRROR_VARIABLE, cache_dir, chosen

CONTENT = {"one.csv": b"a,b\n1,2\n", "sub/two.csv": b"c\n3\n" * 400_000, "three.csv": b"d\n"}


def dataset(base: str | None = None, *, known: bool = True) -> Dataset:
    files = tuple(
        File(
            path=f"toy/{name}",
            url=f"{base}/toy/{name}" if base else None,
            sha256=hashlib.sha256(body).hexdigest() if known else None,
            bytes=len(body) if known else None,
        )
        for name, body in CONTENT.items()
    )
    return Dataset("toy", "Toy", "none", "about", "CC0", "nobody", "here", files, "snapshots:convert")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    for name, body in CONTENT.items():
        path = tmp_path / "mirror" / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return tmp_path / "mirror"


@pytest.fixture
def server(mirror: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(mirror))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as service:
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{service.server_port}"
        service.shutdown()
        thread.join()


def held(cache: Path) -> dict[str, bytes]:
    return {str(p.relative_to(cache / "toy")): p.read_bytes() for p in cache.rglob("*") if p.is_file()}


def test_fetch_from_a_mirror(cache: Path, mirror: Path) -> None:
    assert fetch(dataset(), mirror=mirror, progress=False) == cache / "toy"
    assert held(cache) == CONTENT
    assert locate(dataset()) == cache / "toy"


def test_fetch_from_the_mirror_of_the_environment(cache: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, str(mirror))
    fetch(dataset(), progress=True)
    assert held(cache) == CONTENT


def test_all_wrong_files_are_listed_and_nothing_wrong_is_kept(cache: Path, mirror: Path) -> None:
    (mirror / "toy" / "one.csv").write_bytes(b"a,b\n1,3\n")  # corrupted, same size
    (mirror / "toy" / "sub" / "two.csv").write_bytes(CONTENT["sub/two.csv"][:1000])  # truncated
    with pytest.raises(DataError) as caught:
        fetch(dataset(), mirror=mirror, progress=False)
    found = [p.found for p in caught.value.problems]
    assert len(found) == 2
    assert "toy/one.csv" in found[0]
    assert "toy/sub/two.csv of 1000 bytes" in found[1]
    assert held(cache) == {"three.csv": CONTENT["three.csv"]}  # no part files either


def test_a_fetch_is_taken_up_where_it_stopped(cache: Path, mirror: Path) -> None:
    broken = mirror / "toy" / "sub" / "two.csv"
    broken.rename(broken.with_name("away"))
    with pytest.raises(DataError, match=r"no file toy/sub/two\.csv in mirror"):
        fetch(dataset(), mirror=mirror, progress=False)
    kept = cache / "toy" / "one.csv"
    os.utime(kept, ns=(1, 1))
    broken.with_name("away").rename(broken)
    fetch(dataset(), mirror=mirror, progress=False)
    assert held(cache) == CONTENT
    assert kept.stat().st_mtime_ns == 1  # not copied again


def test_wrong_bytes_in_the_cache_are_replaced(cache: Path, mirror: Path) -> None:
    fetch(dataset(), mirror=mirror, progress=False)
    (cache / "toy" / "one.csv").write_bytes(b"a,b\n9,9\n")
    with pytest.raises(DataError, match=r"toy/one\.csv with sha256"):
        locate(dataset())
    fetch(dataset(), mirror=mirror, progress=False)
    assert held(cache) == CONTENT


def test_locate_reads_the_mirror_in_place(cache: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, str(mirror))
    assert locate(dataset()) == mirror / "toy"
    assert not cache.exists()


def test_locate_without_data_names_the_command(cache: Path) -> None:
    with pytest.raises(DataError, match=r"embryo data fetch toy.*EMBRYO_DATA_MIRROR"):
        locate(dataset("https://example.org"))
    assert not cache.exists()


def test_locate_lists_every_wrong_file(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, str(mirror))
    (mirror / "toy" / "one.csv").unlink()
    (mirror / "toy" / "three.csv").write_bytes(b"dd\n")
    with pytest.raises(DataError) as caught:
        locate(dataset())
    assert len(caught.value.problems) == 2
    assert locate(dataset(), only=["two*"]) == mirror / "toy"


def test_a_missing_mirror_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="no folder"):
        fetch(dataset(), mirror=tmp_path / "nowhere", progress=False)
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=MIRROR_VARIABLE):
        locate(dataset())


def test_patterns_choose_files() -> None:
    assert [f.name for f in chosen(dataset(), ["t*"])] == ["two.csv", "three.csv"]
    with pytest.raises(DataError, match=r"no file that matches 'x\*'"):
        chosen(dataset(), ["one*", "x*"])


def test_download(cache: Path, server: str) -> None:
    fetch(dataset(server), progress=False)
    assert held(cache) == CONTENT


def test_download_lists_all_failures(cache: Path, server: str, mirror: Path) -> None:
    (mirror / "toy" / "one.csv").unlink()
    (mirror / "toy" / "three.csv").write_bytes(b"?\n")
    with pytest.raises(DataError) as caught:
        fetch(dataset(server), progress=False)
    found = [p.found for p in caught.value.problems]
    assert len(found) == 2
    assert "HTTP 404" in found[0]
    assert "three.csv" in found[1]
    assert held(cache) == {"sub/two.csv": CONTENT["sub/two.csv"]}


def test_no_network_is_an_error_not_a_traceback(cache: Path) -> None:
    with pytest.raises(DataError, match="ConnectionError") as caught:
        fetch(dataset("http://127.0.0.1:9"), progress=False)
    assert len(caught.value.problems) == 3
    assert not held(cache) if cache.exists() else True


def test_a_file_without_an_address_gives_the_cure() -> None:
    with pytest.raises(DataError, match=r"no public address for toy/one\.csv.*mirror"):
        fetch(dataset(), only=["one.csv"], progress=False)


@pytest.mark.parametrize("way", ["mirror", "network"])
def test_an_unknown_checksum_is_recorded_and_then_checked(way: str, cache: Path, mirror: Path, server: str) -> None:
    toy = dataset(server, known=False)
    source = {"mirror": mirror} if way == "mirror" else {}
    fetch(toy, only=["one.csv"], progress=False, **source)
    record = json.loads((cache / "toy" / "one.csv.sha256.json").read_text())
    assert record["sha256"] == hashlib.sha256(CONTENT["one.csv"]).hexdigest()
    assert record["bytes"] == len(CONTENT["one.csv"])
    assert locate(toy, only=["one.csv"]) == cache / "toy"
    (cache / "toy" / "one.csv").write_bytes(b"a,b\n1,3\n")
    with pytest.raises(DataError, match="sha256"):
        locate(toy, only=["one.csv"])
    fetch(toy, only=["one.csv"], progress=False, **source)  # the recorded bytes again
    assert (cache / "toy" / "one.csv").read_bytes() == CONTENT["one.csv"]


def test_cache_dir_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CACHE_VARIABLE)
    assert cache_dir().name == "embryo"
