"""Whatever stands in a dataset's files, reading them ends in a problem or in one plain error."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from molmo2_ground.errors import SourceError
from molmo2_ground.eval.suites import open_suite
from tests import made_up_sets as made

pytestmark = pytest.mark.slow  # reads each made-up set a hundred times over

JUNK: tuple[Any, ...] = (
    None,
    "x",
    -1,
    0,
    1.5,
    [],
    {},
    [None],
    {"a": 1},
    True,
    10**15,
    float("nan"),
    float("inf"),
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested fields and lists; of a list the first two."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _places(item, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value[:2]):
            yield from _places(item, (*path, index))


def _lines(split: str) -> Callable[[Path, Any], None]:
    return lambda folder, rows: made.write_lines(folder / f"{split}.jsonl", rows)


def _file(*parts: str) -> Callable[[Path, Any], None]:
    return lambda folder, content: _write(folder.joinpath(*parts), content)


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _mevis(folder: Path, content: Any) -> None:
    _write(folder / "meta_expressions.json", content["sentences"])
    _write(folder / "mask_dict.json", content["masks"])


@pytest.mark.parametrize(
    ("name", "write", "rewrite"),
    [
        pytest.param("video-point", made.video_point, _lines("val"), id="video-point"),
        pytest.param("video-count", made.video_count, _lines("val"), id="video-count"),
        pytest.param("video-track", made.video_track, _lines("test"), id="video-track"),
        pytest.param("mevis", made.mevis, _mevis, id="mevis"),
        pytest.param(
            "ref-yt-vos",
            made.ref_youtube_vos,
            _file("meta_expressions", "valid", "meta_expressions.json"),
            id="ref-yt-vos",
        ),
        pytest.param("reason-vos", made.reason_vos, _file("meta_expressions.json"), id="reason-vos"),
        pytest.param("burst-count", made.burst, _file("all_classes.json"), id="burst-count"),
        pytest.param("pixmo-points", made.pixmo_points, _lines("test"), id="pixmo-points"),
        pytest.param("pixmo-count", made.pixmo_count, _lines("test"), id="pixmo-count"),
        pytest.param("point-bench", made.point_bench, _file("data.json"), id="point-bench"),
    ],
)
def test_no_value_in_any_place_escapes_as_another_error(
    tmp_path: Path, name: str, write: Callable[..., None], rewrite: Callable[[Path, Any], None]
) -> None:
    kept: list[Any] = []
    write(tmp_path, lambda rows: kept.append(copy.deepcopy(rows)))
    # Every place meets several kinds of junk, not each place all of them.
    for place, junk in itertools.chain.from_iterable(
        ((place, JUNK[(number + 4 * i) % len(JUNK)]) for i in range(3))
        for number, place in enumerate(_places(kept[0]))
    ):
        rows = copy.deepcopy(kept[0])
        inner = rows
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = junk
        rewrite(tmp_path, rows)
        with contextlib.suppress(SourceError):
            suite = open_suite(name, tmp_path)
            assert all(problem.row and problem.reason for problem in suite.check())
