"""Two runs of one suite side by side: what differs, how sure that is, and which examples changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from molmo2_ground.eval.example import Suite
from molmo2_ground.eval.intervals import PairedInterval, paired_bootstrap, paired_bootstrap_summary
from molmo2_ground.eval.page import film, foldable, key_to_pictures, unbroken, write_page
from molmo2_ground.eval.record import Row, Run
from molmo2_ground.eval.stories import UNREADABLE, Story, stories
from molmo2_ground.eval.words import change, percent, question, score_words
from molmo2_ground.viewer.markup import escaped, table
from molmo2_ground.viewer.words import in_words

_MOST_SHOWN = 8
_MOST_LISTED = 200
_SAME = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One score in both runs, over the examples that both have it for (for one of the whole set: all)."""

    name: str
    first: float
    second: float
    examples: int
    interval: PairedInterval

    @property
    def verdict(self) -> str:
        """`better`, `worse` (the second, beyond doubt), or `no clear difference`."""
        if not self.interval.clear:
            return "the same" if self.interval.low == self.interval.high == 0 else "no clear difference"
        return "better" if self.interval.difference > 0 else "worse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """One example whose main score differs; `change` is the second run's minus the first's."""

    first: Row
    second: Row
    score: str
    change: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs over the examples that both scored.

    changed      the largest changes first.   shared  how many examples both scored.
    only_first   examples that the second run has not, or could not ask;   only_second  the other way round.
    left_out     scores of the whole set, such as pooled ones, which only the suite can work out again.
    """

    first: Run
    second: Run
    differences: tuple[Difference, ...]
    changed: tuple[Changed, ...]
    shared: int
    only_first: int
    only_second: int
    left_out: tuple[str, ...] = ()


def compare(first: Run, second: Run, *, suite: Suite | None = None) -> Comparison:
    """Compare two runs of one suite, example by example; with the suite, also by scores of the whole set.

    Raises `ValueError` when they are runs of different suites, or have no example in common.
    """
    if first.card.suite != second.card.suite:
        raise ValueError(
            f"two runs of one suite are compared; {first.folder} is of {first.card.suite} and "
            f"{second.folder} of {second.card.suite}"
        )
    ours = {(row.key, row.task, row.phrase): row for row in first.scored}
    theirs = {(row.key, row.task, row.phrase): row for row in second.scored}
    pairs = [(row, theirs[key]) for key, row in ours.items() if key in theirs]
    if not pairs:
        raise ValueError(f"{first.folder} and {second.folder} have no example in common")
    names = dict.fromkeys(figure.name for figure in (*first.figures, *second.figures))
    whole = {} if suite is None else _whole_set(pairs, suite)
    found = {name: _difference(name, pairs) or whole.get(name) for name in names}
    changes = [moved for before, after in pairs if (moved := _change(first, before, after)) is not None]
    return Comparison(
        first=first,
        second=second,
        differences=tuple(one for one in found.values() if one is not None),
        changed=tuple(sorted(changes, key=lambda one: (-abs(one.change), one.first.index))),
        shared=len(pairs),
        only_first=len(ours) - len(pairs),
        only_second=len(theirs) - len(pairs),
        left_out=tuple(name for name, one in found.items() if one is None) if suite is None else (),
    )


def _difference(name: str, pairs: Sequence[tuple[Row, Row]]) -> Difference | None:
    """The score's means; None for one of the whole set, which no example has for itself."""
    both = [(a, b) for a, b in pairs if name in a.scores and name in b.scores]
    if not both:
        return None
    before, after = [a.scores[name] for a, _ in both], [b.scores[name] for _, b in both]
    return Difference(
        name=name,
        first=sum(before) / len(both),
        second=sum(after) / len(both),
        examples=len(both),
        interval=paired_bootstrap(before, after, clusters=_files(both)),
    )


def _whole_set(pairs: Sequence[tuple[Row, Row]], suite: Suite) -> dict[str, Difference]:
    """Every score of the suite's summary over the shared examples, in both runs."""
    before, after = [a.scores for a, _ in pairs], [b.scores for _, b in pairs]
    first, second = suite.summary(before), suite.summary(after)
    found = paired_bootstrap_summary(before, after, suite.summary, clusters=_files(pairs))
    return {
        name: Difference(
            name=name, first=first[name], second=second[name], examples=len(pairs), interval=interval
        )
        for name, interval in found.items()
    }


def _files(pairs: Sequence[tuple[Row, Row]]) -> list[str]:
    """The file that each pair is about: questions about one are drawn together."""
    return [before.media for before, _ in pairs]


def _interval_words(interval: PairedInterval) -> str:
    if interval.clusters < 2:
        return "one file only"
    return f"{change(interval.low)} to {change(interval.high)}"


def _change(run: Run, before: Row, after: Row) -> Changed | None:
    name = run.main_score(before)
    if name is None or name not in after.scores:
        return None
    moved = after.scores[name] - before.scores[name]
    if abs(moved) <= _SAME:
        return None
    return Changed(first=before, second=after, score=name, change=moved)


def lines(comparison: Comparison) -> Iterator[str]:
    """The comparison as a Markdown table, and the examples that changed most."""
    first, second = _names(comparison)
    yield f"| score | {first} | {second} | difference, points | 95 % interval | {second} is | examples |"
    yield "|---|---:|---:|---:|---:|---|---:|"
    for one in comparison.differences:
        range_ = _interval_words(one.interval)
        yield (
            f"| {score_words(one.name).title} (`{one.name}`) | {percent(one.first)} | {percent(one.second)} "
            f"| {change(one.interval.difference)} | {range_} | {one.verdict} | {one.examples} |"
        )
    yield ""
    yield _account(comparison)
    for moved in comparison.changed[:_MOST_SHOWN]:
        yield (
            f"- {change(moved.change)} {score_words(moved.score).title}: "
            f"{question(moved.first.task, moved.first.phrase)} ({moved.first.key})"
        )


def _names(comparison: Comparison) -> tuple[str, str]:
    """What the runs are called: by their models, by their folders when those are the same."""
    first, second = comparison.first, comparison.second
    if first.card.model != second.card.model:
        return first.card.model, second.card.model
    if first.folder.name != second.folder.name:
        return first.folder.name, second.folder.name
    return str(first.folder), str(second.folder)


def _account(comparison: Comparison) -> str:
    better = sum(moved.change > 0 for moved in comparison.changed)
    worse = len(comparison.changed) - better
    same = comparison.shared - len(comparison.changed)
    text = (
        f"Of {comparison.shared} examples that both runs have, {better} went better in the second, "
        f"{worse} went worse and {same} as before."
    )
    alone = [(comparison.only_first, "first"), (comparison.only_second, "second")]
    extra = [f"{count} are in the {which} run only" for count, which in alone if count]
    if extra:
        text += f" {'; '.join(extra)}, and not compared."
    if comparison.left_out:
        titles = ", ".join(score_words(name).title for name in comparison.left_out)
        text += f" Scores of the whole set are compared when its data is at hand (--data): {titles}."
    return text


def write_comparison(comparison: Comparison, out_html: str | Path, *, suite: Suite | None = None) -> Path:
    """Write the comparison as a page; with the suite, the largest changes are drawn on their frames."""
    first, second = _names(comparison)
    title = f"{first} and {second} on {comparison.first.card.suite}"
    return write_page(Path(out_html), title=title, sections=_sections(comparison, suite))


def _sections(comparison: Comparison, suite: Suite | None) -> Iterator[str]:
    first, second = _names(comparison)
    yield (
        f'<header><p class="kind">Comparison</p>'
        f"<h1>{escaped(second)} against {escaped(first)} on {escaped(comparison.first.card.suite)}</h1>"
        f'<p class="lead">{escaped(_account(comparison))}</p>'
        '<p class="small">Both runs answered the same questions, so they are compared question by question. '
        "When the whole 95 % interval of a difference lies on one side of zero, the difference is hardly "
        "chance. For the interval whole files are drawn again, each with all questions about it.</p></header>"
    )
    yield _table(comparison)
    if comparison.changed:
        yield "<section><h2>What changed</h2>"
        if suite is not None:
            yield key_to_pictures()
        yield from _shown(comparison, suite)
        yield _listed(comparison)
        yield "</section>"
    made = [
        (escaped(name), escaped(run.card.identity), escaped(str(run.folder)), str(len(run.rows)))
        for name, run in zip((first, second), (comparison.first, comparison.second), strict=True)
    ]
    heads = ("Run", "Model", "Folder", "Examples")
    yield f"<section><h2>The runs</h2>{table(heads, made)}</section>"


def _table(comparison: Comparison) -> str:
    first, second = _names(comparison)
    rows = [
        (
            f'<strong title="{escaped(score_words(one.name).meaning)}">'
            f"{escaped(score_words(one.name).title)}</strong>",
            unbroken(percent(one.first)),
            unbroken(percent(one.second)),
            unbroken(change(one.interval.difference)),
            unbroken(_interval_words(one.interval)),
            f'<span class="{one.verdict.replace(" ", "-")}">{one.verdict}</span>',
            str(one.examples),
        )
        for one in comparison.differences
    ]
    heads = ("Score", first, second, "Difference, points", "95 % interval", f"{second} is", "Examples")
    return f"<section><h2>Scores</h2>{table(heads, rows)}</section>"


def _shown(comparison: Comparison, suite: Suite | None) -> Iterator[str]:
    """The largest changes, both answers one below the other."""
    if suite is None:
        return
    changed = comparison.changed[:_MOST_SHOWN]
    before = stories(comparison.first, suite, [moved.first for moved in changed])
    after = stories(comparison.second, suite, [moved.second for moved in changed])
    for moved, one, other in zip(changed, before, after, strict=True):
        answers = "".join(
            _answer(name, story, moved.score)
            for name, story in zip(_names(comparison), (one, other), strict=True)
        )
        low = " low" if moved.change < 0 else ""
        yield (
            f'<div class="story"><h3><span class="mark{low}">{change(moved.change)}</span>'
            f"{escaped(question(moved.first.task, moved.first.phrase))}</h3>"
            f'<p class="small">{escaped(score_words(moved.score).title)} · {escaped(moved.first.key)}</p>'
            f"{answers}</div>"
        )


def _answer(name: str, story: Story, score: str) -> str:
    found = in_words(story.result) if story.result is not None else UNREADABLE
    trouble = f'<p class="small">No pictures: {escaped(story.trouble)}</p>' if story.trouble else ""
    return (
        f"<p><strong>{escaped(name)}</strong> {percent(story.row.scores[score])} · {escaped(found)}</p>"
        f"{film(story.pictures)}{trouble}"
        + foldable("The model's words", f"<pre>{escaped(story.text)}</pre>")
    )


def _listed(comparison: Comparison) -> str:
    rows = [
        (
            escaped(moved.first.key),
            escaped(question(moved.first.task, moved.first.phrase)),
            escaped(score_words(moved.score).title),
            unbroken(percent(moved.first.scores[moved.score])),
            unbroken(percent(moved.second.scores[moved.score])),
            f'<span class="{"better" if moved.change > 0 else "worse"}">{change(moved.change)}</span>',
        )
        for moved in comparison.changed[:_MOST_LISTED]
    ]
    listed = table(("Example", "Question", "Score", *_names(comparison), "Change"), rows)
    left_out = len(comparison.changed) - _MOST_LISTED
    more = f'<p class="small">{left_out} more, with smaller changes.</p>' if left_out > 0 else ""
    return foldable(f"All {len(comparison.changed)} examples that changed", listed + more)
