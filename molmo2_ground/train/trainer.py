"""`Trainer`: takes batches, updates a model, and goes on after any interruption as if there had been none.

A run lives in a work folder: snapshots, the log, the curves. Running again goes on from the last snapshot.
On one CPU thread count the weights and the log of an interrupted run equal those of one that was not, to the
last bit. Numbers of a step stay on the device until the next line of the log, so a GPU is never waited for
in between.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor

from molmo2_ground._atomic import atomic_path
from molmo2_ground._optional import require
from molmo2_ground.errors import TrainingError
from molmo2_ground.train.curves import draw_curves
from molmo2_ground.train.feed import Json, Loader, TrainBatch
from molmo2_ground.train.guard import GuardRule, LossGuard
from molmo2_ground.train.interruption import alone_in, stop_signals
from molmo2_ground.train.logbook import Logbook
from molmo2_ground.train.named_tensors import copy_tensors, model_tensors
from molmo2_ground.train.optimizer import Optimizer
from molmo2_ground.train.snapshot import Snapshot, SnapshotStore
from molmo2_ground.train.step import Evaluation, FinishedStep, StepLoss, StepPlace, fetched

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)
BatchT = TypeVar("BatchT", bound=TrainBatch)

STOPPED_FILE = "stopped.json"
_MOST_DIFFERENCES = 4
_BRIEF = 40  # letters; digests of files are longer
_DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """How a run is kept; none of this changes what is learnt, except `steps`, `accumulate` and `seed`.

    steps           updates. accumulate: micro-batches in each.
    seed            of the run.
    log_every       the device is asked for its numbers every so many steps; the log has a line for each step.
    save_every      steps between snapshots; one more is made at the end. keep: so many stay.
    evaluate_every  steps between evaluations, which also run at the end; 0 for none.
    evaluate_seconds  evaluate, too, when so long has passed since the start or the last time; which steps
                    these are is up to the clock, and changes nothing of what is learnt.
    seconds         stop with a snapshot after so long; None: go to the end.
    """

    steps: int
    accumulate: int = 1
    seed: int = 0
    log_every: int = 10
    save_every: int = 500
    keep: int = 2
    evaluate_every: int = 0
    evaluate_seconds: float | None = None
    seconds: float | None = None
    guard: GuardRule = field(default_factory=GuardRule)
    tensorboard: bool = False
    curves: bool = True
    bar: bool | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("steps", 1),
            ("accumulate", 1),
            ("log_every", 1),
            ("save_every", 1),
            ("keep", 1),
            ("evaluate_every", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """How a run ended: after which step, whether that was the last, and with which snapshot.

    interrupted  a signal asked for the stop, even if it came during the last step.
    """

    step: int
    finished: bool
    snapshot: Path
    interrupted: bool


class Trainer(Generic[BatchT]):
    """One run.

    model        what `loss_of` computes with, on its device already; saved whole.
    evaluations  by name; each gives scores of the model as it is. They may draw random numbers.
    identity     what else must be equal for a run to go on: the data, the stage. The optimizer's settings,
                 the seed and the number of micro-batches are compared anyway.
    store        where snapshots lie; None: in the work folder.
    """

    def __init__(
        self,
        work: Path,
        model: nn.Module,
        optimizer: Optimizer,
        loader: Loader[BatchT],
        loss_of: StepLoss[BatchT],
        *,
        plan: RunPlan,
        identity: Mapping[str, Json] | None = None,
        evaluations: Mapping[str, Evaluation] | None = None,
        store: SnapshotStore | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.work, self.model, self.optimizer, self.loader, self.loss_of = (
            work,
            model,
            optimizer,
            loader,
            loss_of,
        )
        self.plan, self.evaluations, self._clock = plan, dict(evaluations or {}), clock
        self.store = store or SnapshotStore(work / "snapshots", keep=plan.keep)
        self._guard = LossGuard(plan.guard)
        self._identity = _plain(
            {
                **(identity or {}),
                "optimizer": optimizer.describe(),
                "seed": plan.seed,
                "accumulate": plan.accumulate,
            }
        )
        self._pending: list[FinishedStep] = []
        self._step = 0
        self._saved: Snapshot | None = None

    def run(self) -> RunEnd:
        """Train to the end, or until SIGTERM, Ctrl-C or `plan.seconds` ask for a stop after the step in work.

        `TrainingError`: the loss is no number or jumped, the disk is full, the loader ended early, the
        snapshots are of another run, or another process works in the folder. The last snapshot stays good.
        """
        self.work.mkdir(parents=True, exist_ok=True)
        if self.plan.curves:
            require("matplotlib", extra="train")  # now, not after hours
        with alone_in(self.work), stop_signals() as caught:
            logbook = Logbook(
                self.work,
                steps=self.plan.steps,
                tensorboard=self.plan.tensorboard,
                bar=self.plan.bar,
                clock=self._clock,
            )
            try:
                return self._run(logbook, caught)
            except OSError as error:
                if error.errno not in _DISK_FAULTS:
                    raise
                raise TrainingError(
                    f"the run stopped after step {self._step}: {error}; see to the disk and run again: it "
                    f"goes on from {self._saved.folder.name if self._saved else 'the start'}"
                ) from error
            finally:
                logbook.close()

    def _run(self, logbook: Logbook, caught: list[str]) -> RunEnd:
        self._start(logbook)
        started = looked = self._clock()
        self.model.train()
        late = False
        while self._step < self.plan.steps and not caught and not late:
            self._pending.append(self._advance())
            step, last, now = self._step, self._step == self.plan.steps, self._clock()
            late = self.plan.seconds is not None and now - started >= self.plan.seconds
            saving = last or late or bool(caught) or step % self.plan.save_every == 0
            evaluating = self._due(step, now - looked)
            if saving or evaluating or step % self.plan.log_every == 0:
                self._settle(logbook)
            if evaluating:
                self._evaluate(logbook)
                looked = self._clock()
            if saving:
                self._save()
            if self.plan.curves and (saving or evaluating):
                draw_curves(self.work)
        return self._end(caught)

    def _due(self, step: int, since_s: float) -> bool:
        """Whether to evaluate after a step, so many seconds after the last time."""
        every, every_s = self.plan.evaluate_every, self.plan.evaluate_seconds
        by_step = bool(every) and (step == self.plan.steps or step % every == 0)
        return by_step or (every_s is not None and since_s >= every_s)

    def _end(self, caught: Sequence[str]) -> RunEnd:
        if self._saved is None or self._saved.step != self._step:  # stopped before the first step
            self._save()
        assert self._saved is not None
        finished = self._step == self.plan.steps
        if not finished:
            logger.warning(
                "stopped by %s after step %d of %d; run the same again to go on from %s",
                caught[0] if caught else f"{self.plan.seconds:g} seconds",
                self._step,
                self.plan.steps,
                self._saved.folder,
            )
        return RunEnd(
            step=self._step, finished=finished, snapshot=self._saved.folder, interrupted=bool(caught)
        )

    def _start(self, logbook: Logbook) -> None:
        """Go on from the last snapshot, or begin."""
        snapshot = self.store.latest()
        if snapshot is None:
            torch.manual_seed(self.plan.seed)
            logbook.rewind(0)
            return
        _compare(snapshot, self._identity)
        state = snapshot.state
        copy_tensors(snapshot.tensors("model"), into=model_tensors(self.model), what="model")
        self.optimizer.restore(snapshot.tensors("optimizer"), step=snapshot.step)
        _restore_rng(snapshot.tensors("rng"))
        self.loader.restore(state["loader"])
        self._guard.restore(state["losses"])
        self._step, self._saved = snapshot.step, snapshot
        logbook.rewind(snapshot.step)
        logger.info("going on from %s", snapshot.folder)

    def _advance(self) -> FinishedStep:
        """One update."""
        started = self._clock()
        step = self._step + 1
        batches = self._take(step)
        wait_s = self._clock() - started
        weight_sum = math.fsum(batch.weight_sum for batch in batches)
        losses, numbers = [], []
        for part, batch in enumerate(batches):
            place = StepPlace(
                step=step,
                part=part,
                parts=len(batches),
                weight_sum=weight_sum,
                seed=((self.plan.seed << 40) + step * self.plan.accumulate + part) % 2**63,
            )
            outcome = self.loss_of(batch, place)
            outcome.loss.backward()
            losses.append(outcome.loss.detach())
            numbers.append(outcome.numbers)
        norms = self.optimizer.step(step)
        self._step = step
        return FinishedStep(
            step=step,
            keys=tuple(key for batch in batches for key in batch.keys),
            loss=torch.stack(losses).sum(),
            norms=norms,
            numbers=numbers,
            seconds=self._clock() - started,
            wait_s=wait_s,
        )

    def _take(self, step: int) -> list[BatchT]:
        batches = []
        for part in range(self.plan.accumulate):
            try:
                batches.append(next(self.loader))
            except StopIteration:
                raise TrainingError(
                    f"the loader ended at part {part} of step {step}; expected {self.plan.accumulate} "
                    f"batches for each of {self.plan.steps} steps. Give it more data or ask for fewer steps."
                ) from None
        return batches

    def _settle(self, logbook: Logbook) -> None:
        """Fetch the numbers of the steps since the last time, look at them, write them down."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        lines: list[dict[str, Json]] = []
        for done, (loss, norms, numbers) in zip(pending, fetched(pending), strict=True):
            fault = self._guard.fault(loss, norms)
            if fault is not None:
                logbook.add(lines)
                self._refuse(fault, done, pending)
            lines.append(
                {
                    "step": done.step,
                    "loss": loss,
                    **numbers,
                    "norm": norms,
                    "rate": self.optimizer.rates(done.step),
                    "seconds": round(done.seconds, 4),
                    "wait_s": round(done.wait_s, 4),
                }
            )
        logbook.add(lines)
        logbook.tell(lines[-1])

    def _refuse(self, fault: str, at: FinishedStep, pending: Sequence[FinishedStep]) -> None:
        path = self.work / STOPPED_FILE
        told = {
            "fault": fault,
            "step": at.step,
            "keys": list(at.keys),
            # Updates after the faulty step were made before it was looked at; nothing of them is saved.
            "steps_since_the_last_look": [{"step": one.step, "keys": list(one.keys)} for one in pending],
        }
        with atomic_path(path) as unfinished:
            unfinished.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        keys = ", ".join(at.keys[:8]) + (f" and {len(at.keys) - 8} more" if len(at.keys) > 8 else "")
        raise TrainingError(
            f"step {at.step} went wrong: {fault}. Its examples: {keys} (all in {path}). Nothing of it was "
            f"saved; the last snapshot is {self._saved.folder.name if self._saved else 'none'}. Look at the "
            "examples, lower the rates, or let jumps pass with GuardRule(sigmas=None)."
        )

    def _evaluate(self, logbook: Logbook) -> None:
        devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
        for name, evaluation in self.evaluations.items():
            # What an evaluation draws must not change the training.
            with torch.random.fork_rng(devices=list(devices)):
                self.model.eval()
                found = {key: float(value) for key, value in evaluation().items()}
                self.model.train()
            scores = {key: value for key, value in found.items() if math.isfinite(value)}
            if len(scores) < len(found):
                odd = ", ".join(f"{key} is {found[key]}" for key in found if key not in scores)
                logger.warning("step %d: %s: %s, which is left out of the log", self._step, name, odd)
            logbook.add([{"step": self._step, "evaluation": name, "scores": scores}])
            logger.info("step %d: %s %s", self._step, name, scores)

    def _save(self) -> None:
        self._saved = self.store.save(
            self._step,
            tensors={
                "model": model_tensors(self.model),
                "optimizer": self.optimizer.tensors(),
                "rng": _rng(),
            },
            state={
                "identity": self._identity,
                "loader": dict(self.loader.state()),
                "losses": self._guard.state(),
            },
        )


def _rng() -> dict[str, Tensor]:
    states = {"cpu": torch.random.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _restore_rng(states: Mapping[str, Tensor]) -> None:
    torch.random.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _plain(value: Mapping[str, Json]) -> dict[str, Any]:
    """As JSON gives it back, so that it can be compared with what was saved."""
    found: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    return found


def _compare(snapshot: Snapshot, identity: Mapping[str, Any]) -> None:
    saved = snapshot.state["identity"]
    differences = list(_differences(saved, identity, ""))
    if differences:
        left = len(differences) - _MOST_DIFFERENCES
        named = "; ".join(differences[:_MOST_DIFFERENCES] + ([f"and {left} more"] if left > 0 else []))
        raise TrainingError(
            f"{snapshot.folder} is of another run: {named}. Go on with the settings it was made with, or "
            "start in another work folder (--work)."
        )


def _differences(saved: Any, now: Any, name: str) -> Iterator[str]:
    if isinstance(saved, dict) and isinstance(now, dict):
        for key in sorted(saved.keys() | now.keys()):
            yield from _differences(saved.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif isinstance(saved, list) and isinstance(now, list) and len(saved) == len(now):
        for number, (one, other) in enumerate(zip(saved, now, strict=True)):
            yield from _differences(one, other, f"{name}[{number}]")
    elif saved != now:
        yield f"{name} was {_briefly(saved)}, is {_briefly(now)}"


def _briefly(value: Any) -> str:
    """A value in a few letters: what is large says no more than how large."""
    if isinstance(value, dict | list) and len(json.dumps(value)) > _BRIEF:
        return f"a list of {len(value)}"
    if isinstance(value, str) and len(value) > _BRIEF:
        return f"{value[:8]}…"
    return "not set" if value is None else json.dumps(value)
