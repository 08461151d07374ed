from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from molmo2_ground.clip import Clip
from molmo2_ground.train.example import POINTING_CROPS, PreparedExample
from molmo2_ground.train.example_source import ExampleMaker, Failure, RowSource
from molmo2_ground.train.mixture import ExampleKey
from molmo2_ground.train.rows import Annotation, Row, Turn
from molmo2_ground.train.tree import Branch, MessageTree
from tests.made_up_sets_to_train import FLAGS, SETS, MadeUp, maker, tree_of
from tests.trees import WRITER


def key(dataset: str, index: int, epoch: int = 0) -> ExampleKey:
    return ExampleKey(dataset=dataset, epoch=epoch, index=index)


def digest(example: PreparedExample) -> str:
    tree = example.tree
    arrays = [tree.ids.tobytes(), tree.targets.tobytes(), tree.weights.tobytes()]
    pictures = [part.numpy().tobytes() for part in (example.patches_CNP, example.pooling_TK)]
    return hashlib.sha256(b"".join([*arrays, *pictures])).hexdigest()


def test_an_example_is_made_again_alone_and_differs_by_all_that_is_in_its_key() -> None:
    one, again = maker().make(key("clips", 4)), maker().make(key("clips", 4))
    assert digest(one) == digest(again)
    others = [key("clips", 5), key("clips", 4, epoch=1), key("photos", 4)]
    made = [digest(maker().make(other)) for other in others] + [digest(maker(seed=8).make(key("clips", 4)))]
    assert len({digest(one), *made}) == 5


@pytest.mark.slow
def test_invariant_19_a_key_makes_the_same_bytes_in_every_process() -> None:
    script = (
        "from tests.unit.train.test_example_source import *\n"
        "print(digest(maker().make(key('clips', 4))), digest(maker().make(key('photos', 1))))"
    )

    def elsewhere(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", script]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    here = f"{digest(maker().make(key('clips', 4)))} {digest(maker().make(key('photos', 1)))}"
    assert elsewhere("0") == elsewhere("123") == here


@pytest.mark.slow
def test_crop_rules_go_by_data_set_and_leave_what_the_data_set_draws() -> None:
    wide = ExampleMaker(
        sources=SETS, writer=WRITER, flags=FLAGS, seed=7, max_tokens=999, crops={"photos": POINTING_CROPS}
    )
    plain = maker(max_tokens=999)
    keys = [key("photos", index, epoch) for index in range(9) for epoch in range(5)]
    more = [wide.make(k).crops > plain.make(k).crops for k in keys]
    assert 2 < sum(more) < 25  # where the picture is large enough for more
    branches = [
        (one.tree.ids[one.tree.branch_ids > 0].tolist(), other.tree.ids[other.tree.branch_ids > 0].tolist())
        for one, other in ((wide.make(k), plain.make(k)) for k in keys[:9])
    ]
    assert all(one == other for one, other in branches)


def test_a_crop_rule_for_an_unknown_data_set_is_refused() -> None:
    with pytest.raises(ValueError, match="foto"):
        ExampleMaker(
            sources=SETS, writer=WRITER, flags=FLAGS, seed=7, max_tokens=9, crops={"foto": POINTING_CROPS}
        )


def test_a_failure_names_the_data_set_the_index_the_row_and_the_reason() -> None:
    broken = maker({"clips": MadeUp(medium="video", size=4, broken=frozenset({2}))})
    found = broken.try_make(key("clips", 2, epoch=3))
    assert isinstance(found, Failure)
    assert str(found) == (
        "example 2 of clips, row video-0002 (epoch 3), cannot be trained on: OSError: the file is cut short"
    )
    assert pickle.loads(pickle.dumps(found)) == found


def test_an_example_that_fits_no_row_is_a_failure() -> None:
    found = maker(max_tokens=30).try_make(key("clips", 0))
    assert isinstance(found, Failure)
    assert "does not fit into 30 tokens" in found.reason


def open_clip(row: Row) -> Clip | None:
    return Clip.from_arrays([np.full((50, 60, 3), 9, dtype=np.uint8)]) if row.media else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    tree: MessageTree


def make_tree(row: Row, clip: Clip | None, /, *, rng: np.random.Generator) -> Made:
    branches = tuple(
        Branch(user_text=turn.question, answer=turn.answer) for one in row.annotations for turn in one.turns
    )
    order = rng.permutation(len(branches))
    return Made(tree=tree_of(tuple(branches[n] for n in order)))


def test_rows_are_a_data_set() -> None:
    turns = tuple(Turn(question=f"{n}?", answer=str(n)) for n in range(3))
    asked = (Annotation(task=("qa",), turns=turns),)
    rows = [
        Row(row_id="first", kind="image", media=("a.png",), annotations=asked),
        Row(row_id="second", kind="none", annotations=asked),
    ]
    source = RowSource(rows=rows, open_clip=open_clip, make_tree=make_tree)
    assert (len(source), source.name_of(1)) == (2, "second")
    made = ExampleMaker(sources={"rows": source}, writer=WRITER, flags=FLAGS, seed=1, max_tokens=500)
    assert [made.make(key("rows", index)).crops for index in range(2)] == [2, 0]
    assert made.sizes == {"rows": 2}
