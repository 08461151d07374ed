from __future__ import annotations

from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from molmo2_ground.train.toy.actors import COLOURS, KINDS, SIZES, Colour, Kind
from molmo2_ground.train.toy.scene import VISIBLE_SHARE, Scene
from molmo2_ground.train.toy.sprites import COLOUR_RGB, turned
from molmo2_ground.train.toy.stamp import claim, lay
from molmo2_ground.train.toy.street import demo_scene, make_scene

MODEL_PX = 168  # what the tiny model sees of a frame, both ways
SEEDS = range(40)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [make_scene(seed, duration_s=6.0) for seed in SEEDS]


def as_the_model_sees(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.resize(rgb, (MODEL_PX, MODEL_PX), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def test_a_seed_is_a_scene() -> None:
    first, again, other = (make_scene(seed, duration_s=5.0) for seed in (11, 11, 12))
    for time_s in (0.0, 2.3, 4.9):
        rgb, ids = first.render(time_s)
        rgb_again, ids_again = again.render(time_s)
        assert np.array_equal(rgb, rgb_again)
        assert np.array_equal(ids, ids_again)
        assert not np.array_equal(rgb, other.render(time_s)[0])
    assert [a.motion.pose(3.0) for a in first.actors] == [a.motion.pose(3.0) for a in again.actors]


def test_the_order_of_rendering_does_not_matter() -> None:
    scene = make_scene(3, duration_s=5.0)
    late = scene.render(4.0)[0]
    scene.render(1.0)
    assert np.array_equal(scene.render(4.0)[0], late)


@pytest.mark.slow
def test_a_picture_alone_and_ids_alone_are_those_of_the_rendering(scenes: list[Scene]) -> None:
    for scene in scenes:
        rgb, ids = scene.render(0.7)
        assert np.array_equal(scene.picture(0.7), rgb)
        assert np.array_equal(scene.id_map(0.7), ids)


def test_render_gives_a_picture_and_ids(scenes: list[Scene]) -> None:
    for scene in scenes:
        rgb, ids = scene.render(1.5)
        assert rgb.shape == (360, 640, 3)
        assert ids.shape == (360, 640)
        assert rgb.dtype == ids.dtype == np.uint8
        assert ids.max(initial=0) <= len(scene.actors)
        assert [a.object_id for a in scene.actors] == list(range(1, len(scene.actors) + 1))


def test_the_point_lies_on_the_object(scenes: list[Scene]) -> None:
    checked = 0
    for scene in scenes:
        for time_s in (0.0, 2.5, 6.0):
            _, ids = scene.render(time_s)
            for state in scene.truth(time_s, ids):
                if state.visible_share > 0:
                    assert ids[int(state.y_px), int(state.x_px)] == state.object_id
                    checked += 1
    assert checked > 200


def test_a_visible_object_has_its_point_off_its_edges(scenes: list[Scene]) -> None:
    """A model that is a pixel or two off must still hit."""
    for scene in scenes:
        _, ids = scene.render(2.0)
        for state in scene.truth(2.0, ids):
            if state.visible_share > 0.9:
                row, column = int(state.y_px), int(state.x_px)
                around = ids[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
                assert (around == state.object_id).all()


def test_the_share_that_shows_counts_borders_and_occluders_and_others(scenes: list[Scene]) -> None:
    for scene in scenes:
        _, ids = scene.render(3.0)
        for state in scene.truth(3.0, ids):
            whole = scene.silhouette_px(state.object_id, 3.0)
            assert state.visible_share == np.count_nonzero(ids == state.object_id) / whole
            assert state.visible == (state.visible_share >= VISIBLE_SHARE)


@pytest.mark.slow
def test_without_occluders_everything_inside_shows() -> None:
    hidden = 0
    for seed in SEEDS:
        bare, full = (make_scene(seed, duration_s=4.0, occluders=o) for o in (False, True))
        assert not bare.occluders
        for scene in (bare, full):
            _, ids = scene.render(2.0)
            for occluder in scene.occluders:
                height, width = occluder.stamp.solid.shape
                top, left = max(occluder.top_px, 0), max(occluder.left_px, 0)
                piece = ids[top : occluder.top_px + height, left : occluder.left_px + width]
                solid = occluder.stamp.solid[top - occluder.top_px :, left - occluder.left_px :]
                assert not piece[solid[: piece.shape[0], : piece.shape[1]] > 0].any()
                hidden += 1
    assert hidden > 20


def test_objects_do_not_stand_on_each_other_at_the_start(scenes: list[Scene]) -> None:
    for scene in scenes:
        _, ids = replace(scene, occluders=()).render(0.0)
        for actor in scene.actors:
            alone = replace(scene, occluders=(), actors=(replace(actor, object_id=1),)).render(0.0)[1] == 1
            covered = np.count_nonzero(alone & (ids != actor.object_id))
            assert covered <= 0.12 * np.count_nonzero(alone)


@pytest.mark.slow
def test_scenes_are_varied() -> None:
    scenes = [make_scene(seed, duration_s=8.0) for seed in range(200, 320)]
    actors = [actor for scene in scenes for actor in scene.actors]
    numbers = Counter(len(scene.actors) for scene in scenes)
    assert numbers[0] > 0
    assert max(numbers) >= 9
    assert sum(numbers[n] for n in range(1, 7)) > 0.6 * len(scenes)
    assert {a.kind for a in actors} == set(KINDS)
    assert {a.colour for a in actors} == set(COLOURS)
    assert {a.size for a in actors} == set(SIZES)
    assert 0.1 < np.mean([not a.moving for a in actors]) < 0.5
    assert 0.1 < np.mean([bool(scene.occluders) for scene in scenes]) < 0.95


def test_moving_things_move_and_others_do_not(scenes: list[Scene]) -> None:
    for scene in scenes:
        for actor in scene.actors:
            x, y, _ = actor.motion.poses(np.linspace(0, scene.duration_s, 30))
            shift = np.hypot(x - x[0], y - y[0]).max()
            assert shift == 0.0 if not actor.moving else shift > 15.0


@pytest.mark.slow
def test_max_actors_caps_the_number() -> None:
    assert all(len(make_scene(seed, duration_s=2.0, max_actors=2).actors) <= 2 for seed in SEEDS)
    assert make_scene(1, duration_s=2.0, max_actors=0).actors == ()


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"duration_s": -1.0}, id="negative-duration"),
        pytest.param({"duration_s": 1.0, "max_actors": 256}, id="ids-do-not-fit-a-byte"),
        pytest.param({"duration_s": 1.0, "max_actors": -1}, id="negative-number"),
    ],
)
def test_bad_arguments(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        make_scene(0, **arguments)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("colour", COLOURS)
def test_colours_can_be_told_at_the_models_size(kind: Kind, colour: Colour) -> None:
    """On every ground, the colour most of the object has is nearest to the one it is named after."""
    for seed in (1, 2, 5, 9):
        scene = make_scene(seed, duration_s=1.0, max_actors=0, occluders=False)
        for step in (0, 10, 30):
            rgb, ids = scene.background.copy(), np.zeros((360, 640), np.uint8)
            stamp = turned(kind, colour, "small", seed % 3, step, 0)
            lay(stamp, 250, 150, rgb=rgb)
            claim(stamp, 250, 150, ids=ids, id_=1)
            small = as_the_model_sees(rgb).astype(np.float64)
            mask = as_the_model_sees(ids * 255) > 200
            names = list(COLOUR_RGB)
            away = np.linalg.norm(small[mask][:, None] - np.array([COLOUR_RGB[n] for n in names]), axis=2)
            votes = Counter(names[i] for i in away.argmin(axis=1) if away.min() < 90)
            assert votes.most_common(1)[0][0] == colour


@pytest.mark.slow
def test_no_ground_looks_like_an_object() -> None:
    """Lawns are not the green of things, markings not their white, asphalt not their black."""
    palette = np.array(list(COLOUR_RGB.values()), dtype=np.float64)
    for seed in range(30):
        ground = as_the_model_sees(make_scene(seed, duration_s=1.0, max_actors=0).background)
        pixels = ground.reshape(-1, 3).astype(np.float64)
        nearest = np.linalg.norm(pixels[:, None] - palette, axis=2).min(axis=1)
        assert np.mean(nearest < 36) < 0.02


@pytest.mark.slow
def test_the_demo_scene_hides_the_red_car_for_a_second() -> None:
    scene = demo_scene()
    red = [a for a in scene.actors if (a.colour, a.kind) == ("red", "car")]
    assert len(red) == 1
    shares = []
    for index in range(240):
        state = scene.truth(index / 30, scene.render(index / 30)[1])[red[0].object_id - 1]
        shares.append(state.visible_share)
    gone = [index for index, share in enumerate(shares) if share == 0]
    assert 24 <= len(gone) <= 45
    assert gone == list(range(gone[0], gone[-1] + 1))
    assert shares[0] == 1.0
    assert shares[-1] == 1.0
    assert {a.kind for a in scene.actors} >= {"car", "bus", "person"}
    assert len({a.colour for a in scene.actors if a.kind == "car"}) >= 3
