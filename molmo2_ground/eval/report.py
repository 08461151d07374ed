"""A run as pages for people: `report.md` with the figures, `report.html` with pictures and charts too."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from molmo2_ground._amount import amount
from molmo2_ground._atomic import atomic_path
from molmo2_ground.eval import plots
from molmo2_ground.eval.example import Suite
from molmo2_ground.eval.groups import by_category, by_number, tags_of
from molmo2_ground.eval.page import film, foldable, key_to_pictures, unbroken, write_page
from molmo2_ground.eval.paper import paper_rows
from molmo2_ground.eval.record import Figure, Run
from molmo2_ground.eval.stories import UNREADABLE, Story, stories, worst_and_best
from molmo2_ground.eval.words import (
    between,
    change,
    examples,
    percent,
    question,
    said,
    score_words,
    tag_words,
    unit,
)
from molmo2_ground.viewer.markup import escaped, table
from molmo2_ground.viewer.words import in_words

MARKDOWN, PAGE = "report.md", "report.html"
_MOST_STORIES = 6
_MOST_ROWS = 500
_FEWEST_FOR_CHARTS = 10


def write_reports(run: Run, suite: Suite) -> tuple[Path, Path]:
    """Write `report.md` and `report.html` into the run's folder, and return where."""
    words = run.folder / MARKDOWN
    with atomic_path(words) as unfinished:
        unfinished.write_text("\n".join(_markdown(run)) + "\n", encoding="utf-8", errors="replace")
    page = run.folder / PAGE
    title = f"{run.card.model} on {run.card.suite}"
    return words, write_page(page, title=title, sections=_sections(run, suite))


def _markdown(run: Run) -> Iterator[str]:
    yield f"# {run.card.model} on {run.card.suite}\n"
    yield " ".join(_account(run)) + "\n"
    yield "| score | value | 95 % interval | examples | files |"
    yield "|---|---:|---:|---:|---:|"
    for figure in run.figures:
        title, value = f"{score_words(figure.name).title} (`{figure.name}`)", percent(figure.value)
        yield f"| {title} | {value} | {interval_words(figure)} | {figure.examples} | {_files(figure)} |"
    yield ""
    published = list(_published(run))
    if published:
        yield "| published | model | value | this run | remark |"
        yield "|---|---|---:|---:|---|"
        for cells in published:
            yield f"| {' | '.join(cells)} |"
        yield ""
    for line in _made(run):
        yield f"- {line}"


def _published(run: Run) -> Iterator[tuple[str, str, str, str, str]]:
    """What the reports say about this suite: score, model, value, this run's own, and what to mind."""
    ours = {figure.name: figure.value for figure in run.figures}
    for row in paper_rows(run.card.suite):
        # Most published numbers come from the released evaluator, whose way of counting has its own score.
        own = ours.get(f"reference_{row.score}", ours.get(row.score))
        remark = f"{row.source}, {row.where}" + (f"; {row.note}" if row.note else "")
        value = percent(own) if own is not None else "not measured"
        title, published = score_words(row.score).title, percent(row.value)
        match row.kind:
            case "difference":
                title, value = "A difference, no score", "nothing to compare"
                published = f"{change(row.value)} points against {row.against}"
            case "preference":
                title, value = "A preference, no score", "nothing to compare"
                published = f"preferred by people in {percent(row.value)} of pairs to {row.against}"
        yield title, row.model, published, value, remark


def _account(run: Run) -> Iterator[str]:
    """What was asked and what became of it, in sentences."""
    counted = Counter(row.status for row in run.rows)
    files = len({row.media for row in run.rows})
    yield (
        f"{len(run.rows)} question{'s' * (len(run.rows) != 1)} about {files} "
        f"file{'s' * (files != 1)} were put to the model {run.card.model}."
    )
    if run.card.settings.note:
        yield f"The suite: {run.card.settings.note}."
    if run.card.limit is not None and len(run.rows) < run.card.examples:
        yield f"The suite holds {run.card.examples}; this run was limited to the first {run.card.limit}."
    if counted["unreadable"]:
        yield (
            f"In {counted['unreadable']} of the answers nothing could be read; "
            "they count as wrong, as the suite says."
        )
    if counted["failed"]:
        yield f"{counted['failed']} could not be asked and are in none of the figures."
    if run.card.left_out:
        count = len(run.card.left_out)
        yield f"{amount(count, 'bad row')} of the dataset {'was' if count == 1 else 'were'} left out."


def _made(run: Run) -> Iterator[str]:
    """How the run was made, a line each."""
    card = run.card
    yield f"Model: {card.identity}"
    settings = card.settings
    frames = (
        "as many frames as the model reads"
        if settings.max_frames is None
        else (f"at most {amount(settings.max_frames, 'frame')}")
    )
    mode = (
        "the likeliest word each time (greedy)"
        if settings.temperature == 0
        else (f"drawn at temperature {settings.temperature:g}")
    )
    yield f"Asked with {frames}; answers of at most {settings.max_new_tokens} tokens, {mode}"
    if card.answer_ms is not None:
        yield f"Median time for one answer: {card.answer_ms / 1000:.2f} s, with {card.threads} CPU thread(s)"
    yield "Versions: " + ", ".join(f"{name} {version}" for name, version in card.versions.items())
    yield "Intervals: 95 %, bootstrap over whole files, each with all questions about it"


def _sections(run: Run, suite: Suite) -> Iterator[str]:
    yield _head(run)
    worst, best = worst_and_best(run, count=_MOST_STORIES)
    if worst or best:
        names = [figure.name for figure in run.figures]
        yield f"<section><h2>Examples to look at</h2>{_how_to_look()}"
        yield _stories("Where it went wrong", stories(run, suite, worst), names)
        yield _stories("Where it went well", stories(run, suite, best), names)
        yield "</section>"
    yield from _charts(run)
    yield _figures(run)
    published = [tuple(escaped(cell) for cell in cells) for cells in _published(run)]
    if published:
        heads = ("Score", "Model", "Published", "This run", "Remark")
        yield f"<section><h2>Published numbers beside it</h2>{table(heads, published)}</section>"
    yield _troubles(run)
    yield _every_example(run)
    items = "".join(f"<li>{escaped(line)}</li>" for line in _made(run))
    yield f"<section><h2>How it was made</h2><ul>{items}</ul></section>"


def _head(run: Run) -> str:
    cards = "".join(_card(figure) for figure in run.figures if figure.name in run.card.headline)
    return (
        f'<header><p class="kind">Evaluation</p>'
        f"<h1>{escaped(run.card.model)} on {escaped(run.card.suite)}</h1>"
        f'<p class="lead">{escaped(" ".join(_account(run)))}</p>'
        f'<div class="cards">{cards}</div>'
        '<p class="small">100 % is perfect. The range beside a figure is its 95 % interval: with other '
        "videos or pictures of the same kind, the figure would most likely fall into it. Questions about one "
        "file go well or badly together, so whole files are drawn for it and not single questions."
        "</p></header>"
    )


def _card(figure: Figure) -> str:
    words = score_words(figure.name)
    return (
        f'<div class="card"><h3>{escaped(words.title)}</h3><p class="value">{percent(figure.value)}</p>'
        f"{plots.whisker(figure.value, figure.low, figure.high)}"
        f'<p class="small">{interval_words(figure)}<br>{examples(figure.examples)}</p>'
        f'<p class="small">{escaped(words.meaning)}</p></div>'
    )


def interval_words(figure: Figure) -> str:
    """The interval, where there is one: one file, or examples all alike, say nothing about others."""
    if figure.files == 1 and figure.examples > 1:
        return "one file only"
    return between(figure.low, figure.high) if figure.low < figure.high else "all alike"


def _files(figure: Figure) -> str:
    return "" if figure.files is None else str(figure.files)


def _figures(run: Run) -> str:
    rows = [
        (
            f"<strong>{escaped(score_words(figure.name).title)}</strong> "
            f'<span class="small"><code>{escaped(figure.name)}</code></span>',
            unbroken(percent(figure.value)),
            unbroken(interval_words(figure)),
            plots.whisker(figure.value, figure.low, figure.high),
            str(figure.examples),
            _files(figure),
            escaped(score_words(figure.name).meaning),
        )
        for figure in run.figures
    ]
    heads = ("Score", "Value", "95 % interval", "0 to 100 %", "Examples", "Files", "What it says")
    return f"<section><h2>All figures</h2>{table(heads, rows)}</section>"


def _how_to_look() -> str:
    return (
        '<p class="small">Examples with the lowest and the highest scores, no file twice, all kinds of '
        "questions in turn.</p>" + key_to_pictures()
    )


def _stories(title: str, told: Sequence[Story], figures: Sequence[str]) -> str:
    if not told:
        return ""
    body = "\n".join(_story(story, figures) for story in told)
    return f'<h3>{escaped(title)}</h3><div class="stories">{body}</div>'


def _story(story: Story, figures: Sequence[str]) -> str:
    row = story.row
    found = f"The model says: {in_words(story.result)}" if story.result is not None else UNREADABLE
    about = [said(name, value) for name, value in row.tags.items() if name != "task"]
    scores = ", ".join(
        f"{score_words(name).title} {percent(row.scores[name])}" for name in figures if name in row.scores
    )
    more = (
        f"<p>Scores: {escaped(scores)}</p><p>Example {escaped(row.key)}, file {escaped(row.media)}</p>"
        f"<p>The model's words:</p><pre>{escaped(story.text)}</pre>"
    )
    low = " low" if row.scores[story.score] < 0.5 else ""
    trouble = f'<p class="small">No pictures: {escaped(story.trouble)}</p>' if story.trouble else ""
    return (
        f'<div class="story"><h3><span class="mark{low}" title="{escaped(score_words(story.score).title)}">'
        f"{percent(row.scores[story.score])}</span>{escaped(question(row.task, row.phrase))}</h3>"
        f'<p class="small">{escaped(score_words(story.score).title)} · {escaped(" · ".join(about))}</p>'
        f"<p>{escaped(found)}</p>{film(story.pictures)}{trouble}{foldable('Scores and words', more)}</div>"
    )


def _charts(run: Run) -> Iterator[str]:
    rows = run.scored
    headline = [
        name for name in run.card.headline if sum(name in row.scores for row in rows) >= _FEWEST_FOR_CHARTS
    ]
    if not headline:
        return
    numbers, words = tags_of(rows)
    yield "<section><h2>What it depends on</h2>"
    yield (
        '<p class="small">Each dot is the mean over the examples below it (n of them), with its 95 % '
        "interval. Where the intervals are wide there are few examples; a hollow dot stands for fewer than "
        "five files, which is no more than a hint.</p>"
    )
    for tag in numbers:
        charts = [
            plots.by_number(groups, title=score_words(name).title, x_label=_measured(tag))
            for name in headline
            if len(groups := by_number(rows, name, tag)) > 1
        ]
        yield _row_of_charts(tag_words(tag).title, charts)
    for tag in words:
        charts = [
            plots.by_category(groups, title=score_words(name).title)
            for name in headline
            if len(groups := by_category(rows, name, tag)) > 1
        ]
        yield _row_of_charts(tag_words(tag).title, charts)
    charts = [
        plots.spread(column, title=score_words(name).title)
        for name in headline
        if len(set(column := [row.scores[name] for row in rows if name in row.scores])) > 2
    ]
    yield _row_of_charts("How the scores spread", charts)
    yield "</section>"


def _measured(tag: str) -> str:
    """What a chart goes along, with its unit."""
    return f"{tag_words(tag).meaning}, {unit(tag)}" if unit(tag) else tag_words(tag).meaning


def _row_of_charts(title: str, charts: Sequence[str]) -> str:
    if not charts:
        return ""
    return f'<h3>{escaped(title)}</h3><div class="charts">{"".join(charts)}</div>'


def _troubles(run: Run) -> str:
    parts = []
    for status, title in (("unreadable", "Answers that could not be read"), ("failed", "Could not be asked")):
        rows = [row for row in run.rows if row.status == status]
        if rows:
            cells = [
                (escaped(row.key), escaped(question(row.task, row.phrase)), escaped(row.reason))
                for row in rows[:_MOST_ROWS]
            ]
            listed = table(("Example", "Question", "Reason"), cells) + _and_more(len(rows))
            parts.append(foldable(f"{title}: {len(rows)}", listed))
    if run.card.left_out:
        cells_of_bad = [(escaped(bad.row), escaped(bad.reason)) for bad in run.card.left_out[:_MOST_ROWS]]
        listed = table(("Row", "Reason"), cells_of_bad) + _and_more(len(run.card.left_out))
        parts.append(foldable(f"Bad rows of the dataset, left out: {len(run.card.left_out)}", listed))
    return f"<section><h2>Troubles</h2>{''.join(parts)}</section>" if parts else ""


def _and_more(count: int) -> str:
    left_out = count - _MOST_ROWS
    return f'<p class="small">{left_out} more in scores.jsonl.</p>' if left_out > 0 else ""


def _every_example(run: Run) -> str:
    rows = []
    for row in run.rows[:_MOST_ROWS]:
        name = run.main_score(row)
        score = f"{percent(row.scores[name])} {score_words(name).title}" if name is not None else row.status
        rows.append(
            (escaped(row.key), escaped(question(row.task, row.phrase)), escaped(score), escaped(row.status))
        )
    listed = table(("Example", "Question", "Score", "Status"), rows) + _and_more(len(run.rows))
    scores = [row.scores[name] for row in run.scored if (name := run.main_score(row)) is not None]
    middle = f", the median scores {percent(statistics.median(scores))}" if scores else ""
    body = foldable(f"{examples(len(run.rows))}{middle}", listed)
    return f"<section><h2>Every example</h2>{body}</section>"
