from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from molmo2_ground.backends.native import NativeBackend
from molmo2_ground.backends.prompt_room import PromptRoom
from molmo2_ground.backends.scripted import ScriptedBackend
from molmo2_ground.clip import Clip
from molmo2_ground.errors import AnswerError, BackendError, CheckpointError, SourceError
from molmo2_ground.grounder import Grounder, load, plan
from molmo2_ground.look import Looking, looks
from molmo2_ground.model import Molmo2, load_checkpoint
from molmo2_ground.model.checkpoint import open_checkpoint
from molmo2_ground.model.int8 import saved_parameters
from molmo2_ground.model.random_checkpoint import write_random_checkpoint
from molmo2_ground.planning import Plan
from molmo2_ground.planning.free_memory import free_bytes
from molmo2_ground.planning.planner import plan_question
from molmo2_ground.query import Decoding, Query
from molmo2_ground.results import Count
from molmo2_ground.sources import MediaLike, probe
from molmo2_ground.train.toy.clip_file import write_clip
from molmo2_ground.train.toy.street import demo_scene
from tests.media import Shelf, constant_rate

CPU = torch.device("cpu")
SHORT = Decoding(max_new_tokens=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Four frames a window, so that a few seconds are a long video.
    return write_random_checkpoint(tmp_path_factory.mktemp("checkpoint"), track_frames=4, max_frames=6)


@pytest.fixture(scope="module")
def model(folder: Path) -> Molmo2:
    return load_checkpoint(folder, device="cpu")


def room_of(folder: Path, dtype: torch.dtype = torch.float32) -> PromptRoom:
    return PromptRoom(checkpoint=open_checkpoint(folder), device=CPU, dtype=dtype)


def noise(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


def reported(grounder: Grounder, media: MediaLike, query: Query) -> tuple[int, int]:
    """Tokens in and windows of a run; a random model's nonsense is an answer too."""
    try:
        with grounder.open(media) as session:
            result = session.answer(query, decoding=SHORT)
    except AnswerError as error:
        return error.answer.tokens_in, 1
    receipt = result.points.receipt if isinstance(result, Count) else result.receipt
    return receipt.tokens_in, max(1, len(receipt.windows))


STILLS = [noise(150, 220, 3), noise(60, 40, 3)]
QUERIES = {
    "track": Query.track("the red car"),
    "dense-track": Query.track("the red car", fps=1, show_fps=10),
    "point": Query.point("mugs"),
    "count": Query.count("mugs"),
    "ask": Query.ask("What is there?"),
}


@pytest.mark.parametrize("pictures", [1, 2], ids=["one-image", "two-images"])
@pytest.mark.parametrize("task", ["point", "count", "ask"])
@pytest.mark.parametrize("crops", [None, 12], ids=["usual", "closer"])
def test_prompt_tokens_are_exact_for_images(
    model: Molmo2, pictures: int, task: str, crops: int | None
) -> None:
    backend = NativeBackend(model, pointing_crops=crops)
    media, query = STILLS[:pictures], QUERIES[task]
    planned = Grounder(backend).plan(media, query, calibrate=False)
    assert planned.tokens.prompt_total == reported(Grounder(backend), media, query)[0]
    assert planned.frames.count == pictures


@pytest.mark.parametrize("task", QUERIES)
@pytest.mark.parametrize("frames", [15, 75], ids=["short", "long"])
def test_prompt_tokens_and_windows_are_exact_for_a_video(
    model: Molmo2, media: Shelf, task: str, frames: int
) -> None:
    path = media(constant_rate, frame_count=frames)
    query = QUERIES[task]
    backend = NativeBackend(model)
    prompts: list[int] = []

    class Noting(NativeBackend):
        def open(self, clip: Clip):  # type: ignore[no-untyped-def]  # noqa: ANN202 - as its parent's
            prompts.append(len(clip))
            return super().open(clip)

    planned = Grounder(backend).plan(path, query, calibrate=False)
    noting = Noting(model)
    try:
        tokens_in, windows = reported(Grounder(noting), path, query)
    except AnswerError:
        pytest.fail("a readable run is needed here")
    assert len(prompts) == planned.frames.windows
    if planned.frames.windows == 1 or windows > 1:
        assert planned.tokens.prompt_total == tokens_in
    if frames == 75 and task == "track":
        assert planned.frames.windows > 3
        assert planned.frames.window_frames == 4


@pytest.mark.slow
def test_tokens_of_all_windows_are_what_their_receipts_add_up_to(tmp_path: Path) -> None:
    grounder = Grounder(NativeBackend(load_checkpoint("tiny", device="cpu")))
    # A street: about other films the tiny model may write what is no answer.
    path, query = tmp_path / "street.mp4", Query.track("the red car")
    write_clip(demo_scene(), path, fps=10.0, quick=True)
    planned = grounder.plan(path, query, calibrate=False)
    receipt = grounder.track(path, "the red car").receipt
    assert len(receipt.windows) > 2
    assert planned.tokens.prompts == tuple(child.tokens_in for child in receipt.windows)
    assert planned.tokens.prompt_total == receipt.tokens_in
    assert planned.frames.count == len(receipt.frame_source_indices)
    assert planned.frames.sampling in receipt.recipe
    assert f"windows-{planned.frames.window_frames}-{planned.frames.overlap_frames}/2" in receipt.recipe
    assert planned.tokens.exact


@pytest.mark.slow
def test_following_a_point_through_windows_is_said_to_be_inexact(folder: Path, media: Shelf) -> None:
    path = media(constant_rate, frame_count=75)
    planned = plan(path, Query.track("it", at=(3.0, 10, 10)), model=folder, device="cpu", calibrate=False)
    every = plan(path, Query.track("it"), model=folder, device="cpu", calibrate=False)
    assert not planned.tokens.exact
    assert 1 < planned.frames.windows < every.frames.windows
    assert planned.frames.together == 1
    assert any("goes on from a place" in note for note in planned.notes)
    with pytest.raises(ValueError, match="after the end"):
        plan(path, Query.track("it", at=(99.0, 10, 10)), model=folder, device="cpu", calibrate=False)


def test_stand_ins_have_the_times_and_sizes_of_the_real_frames(model: Molmo2, media: Shelf) -> None:
    path, query = media(constant_rate, frame_count=75), QUERIES["track"]
    info = probe(path)
    looking = Looking.at(path, info=info, limits=model.limits)
    backend = ScriptedBackend(["There are none."] * 20, limits=model.limits)
    Grounder(backend).track(path, "the red car")
    found = list(looks(path, query, looking=looking, name="x.mp4", side_px=84))
    shown = [clip for _, clip in backend.prompts]
    assert len(found) == len(shown)
    for stand_in, real in zip(found, shown, strict=True):
        times = stand_in.shown_times_s - stand_in.shown_times_s[0]
        assert np.array_equal(times, real.shown_times_s)
        assert {(f.width_px, f.height_px) for f in stand_in.frames} == {(96, 64)}
    assert found[0].frames[0].rgb.strides == (0, 0, 0) or found[0].frames[0].rgb.base is not None


def test_without_calibration_no_weight_is_read(folder: Path, media: Shelf, tmp_path: Path) -> None:
    empty = tmp_path / "checkpoint"
    shutil.copytree(folder, empty)
    weights = empty / "model.safetensors"
    content = weights.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    with weights.open("wb") as file:  # the header, and a hole where the numbers were
        file.write(content[:header])
        file.truncate(len(content))
    path, query = media(constant_rate), QUERIES["track"]
    planned = plan(path, query, model=empty, device="cpu", calibrate=False)
    real = plan(path, query, model=folder, device="cpu", calibrate=False)
    assert planned.time is None
    free = {"memory": real.memory, "model_id": real.model_id}
    assert planned.model_copy(update=free) == real
    assert planned.memory.peak_bytes == real.memory.peak_bytes


@pytest.mark.slow
def test_the_time_is_measured_when_a_model_may_be_run(folder: Path, media: Shelf) -> None:
    planned = plan(media(constant_rate), QUERIES["point"], model=folder, device="cpu")
    assert planned.time is not None
    stages = (planned.time.reading_s, planned.time.vision_s, planned.time.prefill_s, planned.time.answer_s)
    assert all(0 < stage < 60 for stage in stages)
    assert planned.time.total_s == pytest.approx(sum(stages))
    assert planned.fits


def test_a_plan_survives_json(folder: Path, media: Shelf) -> None:
    planned = plan(media(constant_rate), QUERIES["track"], model=folder, device="cpu", calibrate=False)
    fields = json.loads(planned.json_text())
    assert fields.pop("schema") == "molmo2-ground/plan/1"
    assert Plan.model_validate_json(json.dumps(fields)) == planned


# What does not fit


def shortened(folder: Path, target: Path, *, context: int) -> Path:
    """The checkpoint with a context of so many tokens."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = context
    (target / "config.json").write_text(json.dumps(config))
    return target


@pytest.mark.slow
def test_a_prompt_that_is_too_long_is_a_problem_with_an_option(
    folder: Path, media: Shelf, tmp_path: Path
) -> None:
    short = shortened(folder, tmp_path / "checkpoint", context=165)
    path, query = media(constant_rate, frame_count=40), Query.point("mugs")
    planned = plan(path, query, model=short, device="cpu")
    assert planned.problem is not None
    assert planned.time is None
    assert "too many" in planned.problem
    option = planned.problem.split("It would fit with a part of at most ")[1]
    part = media(constant_rate, frame_count=int(10 * float(option.split()[0])))
    assert plan(part, query, model=short, device="cpu", calibrate=False).fits


@pytest.mark.slow
def test_a_picture_that_is_too_large_is_a_problem_with_an_option(folder: Path, tmp_path: Path) -> None:
    short = shortened(folder, tmp_path / "checkpoint", context=150)
    large, query = [np.zeros((600, 300, 3), np.uint8)], Query.point("mugs")
    problem = plan(large, query, model=short, device="cpu").problem
    assert problem is not None
    crops = int(problem.rsplit("pointing_crops=", 1)[1].split(".")[0])
    room = dataclasses.replace(room_of(short), pointing_crops=crops)
    assert plan_question(large, query, room=room).fits
    wordy = plan(large, Query.ask("1" * 300), model=short, device="cpu").problem
    assert wordy is not None
    assert wordy.endswith("shorten it.")


@pytest.mark.slow
def test_too_little_memory_names_the_option_that_fits(folder: Path, media: Shelf) -> None:
    path, query = media(constant_rate, frame_count=400), QUERIES["point"]
    whole = plan_question(path, query, room=room_of(folder))
    halves = plan_question(path, query, room=room_of(folder, torch.bfloat16))
    assert halves.memory.peak_bytes < whole.memory.peak_bytes
    between = (halves.memory.peak_bytes + whole.memory.peak_bytes) // 2
    tight = plan_question(path, query, room=room_of(folder), free=between)
    assert tight.problem is not None
    assert tight.problem.endswith("It would fit with dtype='bfloat16'.")
    none = plan_question(path, query, room=room_of(folder), free=10**6)
    assert none.problem is not None
    assert "No option is small enough: the weights alone take" in none.problem
    assert plan_question(path, query, room=room_of(folder), free=whole.memory.peak_bytes).fits


@pytest.mark.slow
def test_whole_numbers_are_an_option_on_a_card(folder: Path, media: Shelf) -> None:
    path, query = media(constant_rate, frame_count=40), QUERIES["point"]
    card = dataclasses.replace(room_of(folder, torch.bfloat16), device=torch.device("cuda"))
    whole = plan_question(path, query, room=card, free=10**9)
    rounded = plan_question(path, query, room=dataclasses.replace(card, int8=True), free=10**9)
    assert (whole.memory.dtype, rounded.memory.dtype) == ("bfloat16", "int8")
    shapes = open_checkpoint(folder).config.text_config
    assert whole.memory.weights_bytes - rounded.memory.weights_bytes == saved_parameters(shapes)
    between = (whole.memory.peak_bytes + rounded.memory.peak_bytes) // 2
    tight = plan_question(path, query, room=card, free=between)
    assert tight.problem is not None
    assert tight.problem.endswith("It would fit with dtype='int8'.")


@pytest.mark.slow
def test_a_model_of_whole_numbers_is_planned_as_one(folder: Path, media: Shelf) -> None:
    path, query = media(constant_rate, frame_count=40), QUERIES["point"]
    asked = plan(path, query, model=str(folder), device="cpu", dtype="int8", calibrate=False)
    loaded = plan(path, query, model=load(str(folder), device="cpu", dtype="int8"), calibrate=False)
    assert asked.memory.dtype == loaded.memory.dtype == "int8"
    assert asked.memory.peak_bytes == loaded.memory.peak_bytes


@pytest.mark.slow
def test_fewer_images_are_an_option(folder: Path) -> None:
    many = [noise(60, 40, 3)] * 30
    few = plan_question(many[:5], Query.ask("?"), room=room_of(folder, torch.bfloat16))
    tight = plan_question(
        many, Query.ask("?"), room=room_of(folder, torch.bfloat16), free=few.memory.peak_bytes
    )
    assert tight.problem is not None
    assert "It would fit with 5 of the 30 images." in tight.problem


# Wrong arguments


def test_what_cannot_be_asked_is_said(folder: Path, tmp_path: Path, media: Shelf) -> None:
    still = tmp_path / "shelf.png"
    Image.fromarray(noise(40, 40, 3)).save(still)
    for source, error, words in (
        (tmp_path / "nosuch.mp4", SourceError, "there is no file"),
        (still, SourceError, "tracking needs a video"),
    ):
        with pytest.raises(error, match=words):
            plan(source, QUERIES["track"], model=folder, device="cpu", calibrate=False)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        plan(still, QUERIES["point"], model="no such model", device="cpu")
    with pytest.raises(BackendError, match="address of a server"):
        plan(still, QUERIES["point"], model="http://host:1/v1#m", device="cpu")
    with pytest.raises(BackendError, match="a model that runs here"):
        Grounder(ScriptedBackend([])).plan(still, QUERIES["point"])


# Free memory


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        pytest.param("max", 2048 * 1024, id="no-limit"),
        pytest.param("1000000", 600000, id="limit-below-the-machine"),
        pytest.param("90000000", 2048 * 1024, id="limit-above-the-machine"),
        pytest.param(None, 2048 * 1024, id="no-container"),
    ],
)
def test_free_memory_is_the_machines_or_the_containers(
    tmp_path: Path, most: str | None, expected: int
) -> None:
    system = tmp_path / "meminfo"
    system.write_text("MemTotal:  9999 kB\nMemAvailable:   2048 kB\n")
    if most is not None:
        (tmp_path / "memory.max").write_text(most + "\n")
        (tmp_path / "memory.current").write_text("400000\n")
    assert free_bytes(CPU, system=system, group=tmp_path) == expected
    assert free_bytes(CPU, system=tmp_path / "none", group=tmp_path) is None
    assert free_bytes(torch.device("meta")) is None
