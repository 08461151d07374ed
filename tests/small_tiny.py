"""The command that makes the tiny checkpoint, with its five stages at a few small steps each."""

from __future__ import annotations

from dataclasses import replace

from molmo2_ground.train import tiny


def small(stage: tiny.Stage) -> tiny.Stage:
    """Two trees of short clips a step; four steps of pictures, so that there is a middle to be killed in."""
    steps = 4 if stage.name == "1-pictures" else 2
    data = stage.data
    if data is not None:
        frames = tuple(sorted({min(3, count) for count in data.frames}))
        data = replace(data, tokens=1, frames=frames, looks=2, questions=3, slots=2, views=2)
    return replace(stage, steps=steps, batch=8, data=data)


STAGES = tuple(map(small, tiny.STAGES))


def main(*arguments: object, stages: int = len(STAGES)) -> int:
    """Run the command with the first so many small stages."""
    fixed = ["--device", "cpu", "--workers", "0", "--threads", "1"]
    return tiny.main([*fixed, *map(str, arguments)], stages=STAGES[:stages])
