from __future__ import annotations

import subprocess
import sys

import pytest

import molmo2_ground as mg

PROMISED = [
    "Answer",
    "AnswerError",
    "BackendError",
    "CheckpointError",
    "Clip",
    "Count",
    "Decoding",
    "Failed",
    "Frame",
    "GroundError",
    "Grounder",
    "Interrupted",
    "Masks",
    "MissingExtraError",
    "ParseReport",
    "Point",
    "Points",
    "PromptTooLongError",
    "Query",
    "Receipt",
    "Sample",
    "Session",
    "SourceError",
    "Track",
    "Tracks",
    "__version__",
    "ask",
    "batch",
    "count",
    "load",
    "open_clip",
    "point",
    "render",
    "segment",
    "stream",
    "track",
]


def test_the_public_names_are_these_and_sorted() -> None:
    assert mg.__all__ == sorted(mg.__all__)
    assert mg.__all__ == PROMISED
    assert dir(mg) == PROMISED


@pytest.mark.parametrize("name", PROMISED)
def test_each_public_name_works(name: str) -> None:
    value = getattr(mg, name)
    assert isinstance(value, str) or callable(value)
    assert getattr(mg, name) is value


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trakc'"):
        _ = mg.trakc  # type: ignore[attr-defined]


@pytest.mark.slow
def test_render_stays_a_function_after_its_folder_was_imported() -> None:
    code = (
        "import molmo2_ground as mg, molmo2_ground.render, types\n"
        "from molmo2_ground.render import draw\n"
        "assert not isinstance(mg.render, types.ModuleType) and callable(mg.render) and callable(draw)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, molmo2_ground as mg\n"
        "mg.Clip, mg.Tracks, mg.Query, mg.GroundError\n"
        "heavy = {'torch', 'av', 'cv2', 'transformers', 'PIL', 'supervision', 'scipy', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
