"""What docs/watching.md and docs/health.md show is what the package does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from molmo2_ground.analytics import Line, Zone
from molmo2_ground.live.latency import STAGES
from molmo2_ground.live.metrics_page import prometheus_text
from molmo2_ground.live.watch import Watch
from molmo2_ground.live.watching import Watching
from molmo2_ground.messages.health import HealthMessage
from tests.hand_updates import update
from tests.unit.live.test_health import Hands, meter_of, noted

DOCS = Path(__file__).parents[3] / "docs"
WATCHING = (DOCS / "watching.md").read_text(encoding="utf-8")
HEALTH = (DOCS / "health.md").read_text(encoding="utf-8")


def test_the_watches_of_the_page_are_watches() -> None:
    names: dict[str, Any] = {}
    (first, *_) = re.findall(r"```python\n(.*?)```", WATCHING, flags=re.DOTALL)
    exec(compile(first, "docs/watching.md", "exec"), names)
    watching: Watching = names["watching"]
    kinds = [watch.kind for watch in watching.watches]
    assert kinds == ["enters", "crosses", "count_at_least"]
    watching.take(update(0.0, {1: (20, 20)}, looks=True))


def test_every_sentence_of_the_page_is_read() -> None:
    block = WATCHING.split("```\nsomeone enters")[1].split("```")[0]
    block = f"someone enters{block}"
    sentences = [part for line in block.splitlines() for part in re.split(r"\s{3,}", line) if part]
    zones = [Zone(name=name, polygon=((0, 0), (9, 0), (0, 9))) for name in ("red", "yard")]
    assert len(sentences) == 8
    for sentence in sentences:
        Watch.read(sentence, zones=zones, lines=[Line(name="gate", start=(0, 0), end=(9, 9))])


def test_the_page_of_health_names_every_figure_and_field() -> None:
    meter = noted(meter_of(Hands()))
    names = {family.name for family in text_string_to_metric_families(prometheus_text(meter))}
    told = set(re.findall(r"`(ground_\w+?)(?:_total)?`", HEALTH))
    assert told == names
    message = meter.message()
    for key in (*message.extra, *STAGES):
        assert f"`{key}`" in HEALTH
    for field in ("state", "frame_age_ms", "received", "taken", "dropped", "looks", "tokens", "latency_ms"):
        assert field in HealthMessage.model_fields
        assert f"`{field}`" in HEALTH
