"""`LiveTracker`: from pictures and answers to updates; no threads, and no clock but the one it is given.

The order of calls for one picture: `answered` for an answer that has come, `take` the picture, `due` whether
the model is to be asked, `update`. Where the loop waits for the model, `answered` comes between `due` and
`update`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from molmo2_ground.clip import RgbArray
from molmo2_ground.clocks import Clocks
from molmo2_ground.errors import GroundError, SourceError
from molmo2_ground.live.aim import aim
from molmo2_ground.live.carrier import LONGEST_LOOK_S, Carried, Carrier
from molmo2_ground.live.freshness import Freshness
from molmo2_ground.live.identity import FRESH_STEPS, Identities, Joined, Seen
from molmo2_ground.live.ledger import LedgerEntry
from molmo2_ground.live.live_picture import LivePicture
from molmo2_ground.live.looker import LookAnswer, LookRequest
from molmo2_ground.live.sampled_window import LIVE_WINDOW_S, SampledWindow, Window
from molmo2_ground.live.stream_time import StreamTime
from molmo2_ground.live.supervisor import Supervisor
from molmo2_ground.live.token_budget import TokenBudget
from molmo2_ground.live.update import LiveTrack, Look, Update
from molmo2_ground.model.limits import ModelLimits
from molmo2_ground.query import Query
from molmo2_ground.replay import Result
from molmo2_ground.results import Answer, Sample, State, Tracks
from molmo2_ground.sources.feeds.capture import Capture
from molmo2_ground.stitcher import assign

_LOG = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
"""Places are at most so old, seconds, before the model is asked for that alone: flow holds on to a thing
for about as long, and what turns or slows down is a few hundredths of the picture off by then."""
GRACE_S = 10.0
"""A thing may be out of sight for so long and still be itself: behind a bus, or while a camera reconnects."""
MAX_AGE_S = 5.0
VALID_S = 1.0
"""A picture older than `MAX_AGE_S` is of no use to what acts on it; a place may be acted on for `VALID_S`."""
KEPT_S = 2.0  # places are kept for a window and so much more, for the speed that they tell


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRules:
    """How a stream is followed; `stream` says what each means.

    wait   True: every sampled picture is looked at before the next update (policies `every` and `block`).
    """

    fps: float = 2.0
    max_age_s: float = MAX_AGE_S
    valid_s: float = VALID_S
    grace_s: float = GRACE_S
    look_every_s: float = LOOK_EVERY_S
    window_s: float = LIVE_WINDOW_S
    tokens_per_minute: float | None = None
    wait: bool = False
    paced: bool = True

    def __post_init__(self) -> None:
        for name in ("fps", "max_age_s", "valid_s", "grace_s", "window_s"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is above 0 and finite; got {getattr(self, name)}")
        if not 0 <= self.look_every_s < float("inf"):
            raise ValueError(f"look_every_s is 0 or above; got {self.look_every_s}")


class LiveTracker:
    """What is known of one stream, picture after picture.

    carrier: None when places are told only where the model saw them: then there is an update for each look.
    """

    def __init__(
        self,
        *,
        name: str,
        rules: LiveRules,
        limits: ModelLimits,
        resize: Callable[[RgbArray], RgbArray],
        carrier: Carrier | None,
        questions: Mapping[str, Query] | None = None,
        clocks: Clocks | None = None,
    ) -> None:
        self.name, self.rules = name, rules
        self._clocks = clocks or Clocks()
        self._carrier = carrier
        self._time = StreamTime(paced=rules.paced)
        self._window = SampledWindow(
            fps=rules.fps,
            max_frames=limits.frames_tracked_at_once,
            resize=resize,
            window_s=rules.window_s,
            source=name,
        )
        self.supervisor = Supervisor(
            look_every_s=0.0 if carrier is None else rules.look_every_s,
            budget=TokenBudget(a_minute=rules.tokens_per_minute),
        )
        self._freshness = Freshness(max_age_s=rules.max_age_s, valid_s=rules.valid_s)
        self._identities = Identities(grace_s=rules.grace_s, keep_s=rules.window_s + KEPT_S)
        assign(np.zeros((1, 1)), 1.0)  # loads what takes half a second, before pictures come
        self._questions: dict[str, Query] = dict(questions or {})
        self._picture: LivePicture | None = None
        self._stamps_ns: dict[int, int] = {}  # of sampled pictures that the next look may be about
        self._carried: tuple[Carried, ...] = ()
        self._about: LivePicture | None = None  # the picture of the next update
        self._sampled: LivePicture | None = None
        self._asked: LivePicture | None = None
        self._changed: set[str] = set()  # questions that are no longer those that were asked last
        self._out_of_reach: set[str] = set()  # questions about a point that no window can show any more
        self._looks: list[Look] = []
        self._ledger: list[LedgerEntry] = []
        self._dropped: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()  # since the start: taken, and no update is about them
        self._look_timings_ms: dict[str, float] = {}
        self._carried_ms = 0.0
        self._said_slow = False
        self._seq = 0
        self.tokens = 0

    @property
    def questions(self) -> dict[str, Query]:
        """The questions that are asked now, by name."""
        return dict(self._questions)

    def set_question(self, name: str, query: Query | None) -> None:
        """Ask this under `name` from now on, in place of what was asked under it; None asks it no more."""
        before = self._questions.pop(name, None)
        if before is not None:
            self._changed.add(name)
            reason = "its question was removed" if query is None else "its question was changed"
            picture = self._picture
            joined = self._identities.drop(
                name,
                stamp_ns=0 if picture is None else picture.capture.stamp_ns,
                source_index=0 if picture is None else picture.index,
                reason=reason,
            )
            self._take_in(joined)
        if query is not None:
            self._questions[name] = query
            self._out_of_reach.discard(name)
            self.supervisor.sign("question", -1 if self._picture is None else self._picture.index)

    def take(self, capture: Capture) -> bool:
        """Take in the next picture; False when it is of no use: too old, or damaged. It is counted then."""
        began_ns = self._clocks.monotonic_ns()
        # What a source that waits for us holds ready grows no older by waiting.
        too_old = self._freshness.age_ms(capture, began_ns) > 1000 * self.rules.max_age_s
        if self.rules.paced and too_old:
            self._leave_out("late")
            return False
        before = self._picture
        picture = LivePicture(capture=capture, time_s=self._time.of(capture))
        if not self._can_be_painted(picture):
            return False
        self._picture = picture
        if before is not None:
            before.forget_pixels()
            if before.capture.epoch != capture.epoch:
                self._reconnected(picture)
        sampled = self._window.take(picture)
        if self._carrier is None:
            # Told are only pictures that were looked at.
            unlooked = self._sampled if sampled else None
            if unlooked is not None and unlooked is not self._asked:
                self._leave_out("unlooked")
            if not sampled:
                self._leave_out("rate")
        if sampled:
            self._sampled = picture
            self._stamps_ns[picture.index] = capture.stamp_ns
            while len(self._stamps_ns) > self._window.most_frames:
                del self._stamps_ns[next(iter(self._stamps_ns))]
            if self.rules.wait:
                self.supervisor.sign("every", picture.index)
        if self.supervisor.cut(picture):
            self._identities.interrupted(picture.index, cut=True)
            if self._carrier is not None:
                self._carrier.restart_pictures()
        if self._carrier is not None:
            self._carry(picture, self._carrier)
        self._carried_ms = (self._clocks.monotonic_ns() - began_ns) / 1e6
        return True

    def due(self) -> LookRequest | None:
        """What to ask the model now, None when nothing; call it only when no look is under way.

        Taking the request counts as asking.
        """
        window, sampled = self._window.window(), self._sampled
        if window is None or sampled is None or not self._questions:
            return None
        reasons = self.supervisor.due(
            newest_index=sampled.index, newest_s=sampled.time_s, now_s=self._clocks.monotonic_ns() / 1e9
        )
        if not reasons:
            return None
        questions = self._aimed(window, reasons)
        if not questions:
            if self._carrier is None and self._looks:
                self._about = self._asked = sampled  # told are only pictures of looks, and there is none
            return None  # what is to be followed under a point is not in the window
        self.supervisor.asked(reasons, newest_index=sampled.index, newest_s=sampled.time_s)
        self._asked = sampled
        self._changed.clear()
        self._expect(window)
        return LookRequest(
            window=window,
            questions=questions,
            reasons=reasons,
            stamps_ns=dict(self._stamps_ns),
            asked_ns=self._clocks.unix_ns(),
        )

    def answered(self, answer: LookAnswer) -> None:
        """Take in what came of a request: identities, and places carried from its picture to the newest.

        What was said to a question that was changed or removed meanwhile counts for nothing.
        """
        request = answer.request
        before = len(self._ledger)
        for name, result in answer.results.items():
            if name in self._questions and name not in self._changed:
                self._take_result(name, result, answer)
        found_new = any(entry.kind in ("birth", "return") for entry in self._ledger[before:])
        self.tokens += answer.tokens
        self.supervisor.answered(
            request.reasons,
            tokens=answer.tokens,
            found_new=found_new,
            now_s=self._clocks.monotonic_ns() / 1e9,
        )
        self._expect(None)
        if self._carrier is None:
            self._about = self._asked
        else:
            self._warn_of_slow_looks(request.window)

    def update(self, *, dropped: Mapping[str, int] | None = None) -> Update | None:
        """What is known at the newest picture; None when nothing is new (without a carrier: no look came).

        dropped: pictures that did not reach `take` since the update before, by reason.
        """
        self._dropped.update(dropped or {})
        about, self._about = self._about, None
        if about is None:
            return None
        capture = about.capture
        made_ns, now_ns = self._clocks.unix_ns(), self._clocks.monotonic_ns()
        timings_ms = {
            "decoded": (capture.decoded_ns - capture.recv_ns) / 1e6,
            "carried": self._carried_ms,
            "made": (now_ns - capture.monotonic_ns) / 1e6,
        }
        if capture.stamped_by == "camera":
            timings_ms["received"] = self._freshness.received_ms(capture)
        update = Update(
            source=self.name,
            seq=self._seq,
            capture=capture,
            time_s=about.time_s,
            sampled=about.sampled,
            tracks=self._tracks(capture),
            looks=tuple(self._looks),
            ledger=tuple(self._ledger),
            dropped={reason: count for reason, count in self._dropped.items() if count},
            made_ns=made_ns,
            age_ms=self._freshness.age_ms(capture, now_ns),
            valid_until_ns=self._freshness.valid_until_ns(capture),
            timings_ms=timings_ms | self._look_timings_ms,
            waiting=self.supervisor.waiting,
        )
        self._seq += 1
        self._looks, self._ledger, self._look_timings_ms = [], [], {}
        self._dropped.clear()
        return update

    @property
    def held_bytes(self) -> int:
        """About how many bytes of pixels are held: by the window and for carrying."""
        carried = 0 if self._carrier is None else self._carrier.held_bytes
        return self._window.held_bytes + carried

    def close(self) -> None:
        """Let go of what is held; closing again does nothing."""
        if self._carrier is not None:
            self._carrier.close()

    def _can_be_painted(self, picture: LivePicture) -> bool:
        """Whether its pixels can be made; done before anything rests on it, so that the stream goes on."""
        try:
            _ = picture.rgb
        except SourceError as error:
            if not self.left_out["damaged"]:
                _LOG.warning("%s: a picture is left out (further ones are counted): %s", self.name, error)
            self._leave_out("damaged")
            return False
        return True

    def _leave_out(self, reason: str) -> None:
        self._dropped[reason] += 1
        self.left_out[reason] += 1

    def _reconnected(self, picture: LivePicture) -> None:
        self._window.restart()
        if self._carrier is None and self._sampled is not None and self._sampled is not self._asked:
            self._leave_out("unlooked")
        self._sampled = None
        if self._carrier is not None:
            self._carrier.restart_pictures()
        self._carried = ()
        self._identities.interrupted(picture.index, cut=False)
        self.supervisor.restart_pictures(picture.index)

    def _carry(self, picture: LivePicture, carrier: Carrier) -> None:
        self._carried = carrier.take(picture)
        question_of = {
            c.object_id: thing.question for c in self._carried if (thing := self._identities.get(c.object_id))
        }
        self.supervisor.look_at(picture, self._carried, question_of)
        if picture.sampled:
            for carried in self._carried:
                if carried.state == "propagated":
                    place_norm = (carried.x_norm, carried.y_norm)
                    self._identities.note(carried.object_id, _sample(place_norm, picture))
            if self._identities.sought(picture.time_s):
                self.supervisor.sign("lost", picture.index)
        self._about = picture

    def _expect(self, window: Window | None) -> None:
        """Hold what the answer of the look that begins will need; None: it is over."""
        self._identities.asked(None if window is None else window.time_s)
        if self._carrier is not None:
            frames = () if window is None else window.clip.frames
            since_s = 0.0 if window is None else window.time_s - FRESH_STEPS / self.rules.fps
            self._carrier.expect([f.source_index for f in frames if (f.time_s or 0.0) >= since_s])

    def _warn_of_slow_looks(self, window: Window) -> None:
        took_s = 0.0 if self._picture is None else self._picture.time_s - window.time_s
        if took_s > LONGEST_LOOK_S and not self._said_slow:
            self._said_slow = True
            _LOG.warning(
                "%s: a look took %.0f s, and pictures are held for it for %g s at most: what it found could "
                "not be carried to now and is not told (this is said once). Take a smaller model or a "
                'shorter window_s, or carry="none" for places in the pictures that were looked at',
                self.name,
                took_s,
                LONGEST_LOOK_S,
            )

    def _aimed(self, window: Window, reasons: tuple[str, ...]) -> dict[str, Query]:
        """The questions that can be asked of this window; that one never can be again is told once."""
        aimed = {}
        for name, query in self._questions.items():
            if name in self._out_of_reach:
                continue
            places = [sample for thing in self._identities.of(name) for sample in thing.samples]
            try:
                found = aim(query, window, places)
            except GroundError as error:
                self._out_of_reach.add(name)
                now_ns = self._clocks.unix_ns()
                request = LookRequest(window=window, questions={}, reasons=reasons, asked_ns=now_ns)
                told = LookAnswer(request=request, results={name: error}, tokens=0, answered_ns=now_ns)
                self._take_result(name, error, told)
                continue
            if found is not None:
                aimed[name] = found
        return aimed

    def _take_result(self, name: str, result: Result | GroundError, answer: LookAnswer) -> None:
        request, newest = answer.request, answer.request.window.newest
        failed = isinstance(result, GroundError)
        look = Look(
            question=name,
            stamp_ns=newest.stamp_ns,
            source_index=newest.index,
            reasons=request.reasons,
            result=None if isinstance(result, GroundError) else result,
            error=str(result) if failed else "",
            asked_ns=request.asked_ns,
            answered_ns=answer.answered_ns,
            recv_ns=newest.recv_ns,
            epoch=newest.epoch,
            clock=newest.clock,
            stamped_by=newest.stamped_by,
        )
        self._looks.append(look)
        if isinstance(result, GroundError):
            return
        for stage, spent_ms in result.receipt.timings_ms.items():
            stage = {"decode_text": "decode", "decode": "read"}.get(stage, stage)
            self._look_timings_ms[stage] = self._look_timings_ms.get(stage, 0.0) + spent_ms
        tracks = (
            result if isinstance(result, Tracks) else result.tracks if isinstance(result, Answer) else None
        )
        if tracks is None:
            return
        seen = Seen(
            source_index=newest.index,
            time_s=request.window.time_s,
            stamp_ns=newest.stamp_ns,
            step_s=1 / self.rules.fps,
            stamps_ns=request.stamps_ns,
        )
        only_one = self._questions[name].max_objects == 1 or self._questions[name].at is not None
        self._take_in(self._identities.join(name, tracks.tracks, seen, only_one=only_one), request)

    def _take_in(self, joined: Joined, request: LookRequest | None = None) -> None:
        """Follow what an answer changed."""
        self._ledger += joined.ledger
        picture = self._picture
        if self._carrier is None:
            gone = set(joined.gone)
            seen = {anchor.object_id for anchor in joined.anchors}
            kept = [carried for carried in self._carried if carried.object_id not in gone | seen]
            here = -1 if request is None else request.window.newest.index
            found = [
                Carried(object_id=a.object_id, x_norm=a.x_norm, y_norm=a.y_norm, state="observed")
                for a in joined.anchors
                if a.source_index == here
            ]
            self._carried = tuple(sorted((*kept, *found), key=lambda carried: carried.object_id))
            return
        self._carrier.forget(joined.gone)
        same = picture is not None and (
            request is None or request.window.newest.epoch == picture.capture.epoch
        )
        if same:
            self._carried = self._carrier.restart(joined.anchors)
            self._note_caught_up(self._carrier)

    def _note_caught_up(self, carrier: Carrier) -> None:
        """Keep where things are in the newest sampled picture: the next look is about it."""
        picture = self._sampled
        if picture is not None:
            for object_id, place_norm in carrier.places_in(picture.index).items():
                self._identities.note(object_id, _sample(place_norm, picture))

    def _tracks(self, capture: Capture) -> tuple[LiveTrack, ...]:
        tracks = []
        width, height = capture.width_px, capture.height_px
        for carried in self._carried:
            thing = self._identities.get(carried.object_id)
            if thing is None:
                continue
            observed = thing.observed_index == capture.index
            if self._carrier is None and not observed:
                continue  # nothing carries it here
            state: State = "observed" if observed else carried.state
            tracks.append(
                LiveTrack(
                    object_id=thing.object_id,
                    question=thing.question,
                    label=thing.label,
                    x_px=carried.x_norm * width,
                    y_px=carried.y_norm * height,
                    x_norm=carried.x_norm,
                    y_norm=carried.y_norm,
                    state="propagated" if state == "observed" and not observed else state,
                    observed_ns=thing.observed_ns,
                    born_ns=thing.born_ns,
                    mask=carried.mask,
                )
            )
        return tuple(tracks)


def _sample(place_norm: tuple[float, float], picture: LivePicture) -> Sample:
    x_norm, y_norm = place_norm
    return Sample(
        time_s=picture.time_s,
        source_index=picture.index,
        x_px=x_norm * picture.capture.width_px,
        y_px=y_norm * picture.capture.height_px,
        x_norm=x_norm,
        y_norm=y_norm,
        state="propagated",
    )
