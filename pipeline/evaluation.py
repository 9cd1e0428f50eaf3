"""Scores an enhancer on a set of clips, clips in parallel, in worker processes that may die without taking more than
the clip and metric they died on.

One task enhances one clip and computes all its metrics. Where the worker dies or hangs in it, the clip's metrics run
again one by one, so that only the guilty one is lost.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, TimeoutError, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from earshot.core.cores import usable_cores
from earshot.core.errors import DataError, EarshotError, ToolError, UsageError
from earshot.pipeline.enhancers import Clip, Enhance, Enhancer
from earshot.pipeline.metrics.base import Metric, Signals, UnscorableError
from earshot.pipeline.metrics.registry import resolve
from earshot.pipeline.metrics.results import ClipScore, Evaluation
from earshot.pipeline.progress import Progress, Silent
from earshot.quantize.quiet import quiet

if TYPE_CHECKING:
    from pebble import ProcessPool

CORES = "EARSHOT_CORES"
CLIP_TIMEOUT_SECONDS = 180.0  # opening the model included; a clip takes about two
_STARTUP_SECONDS = 120.0
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def evaluate(
    enhancer: Enhancer,
    clips: Sequence[Clip],
    metrics: Sequence[str],
    rate: int,
    *,
    dataset: str = "",
    workers: int | None = None,
    timeout: float = CLIP_TIMEOUT_SECONDS,
    progress: Progress | None = None,
    pool: ProcessPool | None = None,
) -> Evaluation:
    """Enhances and scores every clip.

    Args:
        enhancer: what to score.
        clips: the set.
        metrics: names, see `earshot.pipeline.metrics.registry`.
        rate: of the clips, Hz.
        dataset: digest or name of the set, kept in the result.
        workers: processes; all cores this process may use by default.
        timeout: seconds one clip may take before its worker is ended.
        progress: told about every clip.
        pool: workers that stay for the next evaluation, from `scoring_pool`; default: workers of its own.

    Returns:
        One row per clip, in the order given; the same whatever the number of workers.

    Raises:
        UsageError: no clips, an id twice, an unknown metric, a rate below a metric's.
        DataError: a clip cannot be loaded.
        ModelError: the enhancer cannot be opened.
        ToolError: workers cannot be started.
    """
    chosen = _checked_metrics(metrics, rate)
    _check_ids(clips)
    progress = progress or Silent()
    pickled = _pickled(enhancer)
    tasks = [_Task(index, clip, tuple(chosen), rate, pickled) for index, clip in enumerate(clips)]
    tasks.sort(key=lambda task: _bytes(task.clip), reverse=True)
    count = min(workers or available_cores(), len(tasks))
    progress.start(f"scoring {enhancer.describe()}", len(tasks))
    outcomes: dict[int, _Outcome] = {}
    with nullcontext(pool) if pool is not None else scoring_pool(count) as scoring:
        for index, outcome in _run(scoring, tasks, timeout):
            outcomes[index] = outcome
            progress.advance()
    progress.finish()
    return Evaluation(
        enhancer=enhancer.describe(),
        dataset=dataset,
        rate=rate,
        protocol={name: metric.describe() for name, metric in chosen.items()},
        units={name: metric.unit for name, metric in chosen.items()},
        clips=tuple(_row(clip, outcomes[index], list(chosen)) for index, clip in enumerate(clips)),
    )


@contextmanager
def scoring_pool(workers: int | None = None) -> Iterator[ProcessPool]:
    """Spawned workers: no state of this process (threads, locks, torch) leaks into them. All are gone at the end."""
    import multiprocessing

    from pebble import ProcessPool

    with _single_threaded_children():
        pool = ProcessPool(max_workers=workers or available_cores(), context=multiprocessing.get_context("spawn"))
        try:
            yield pool
        finally:
            pool.stop()
            pool.join()


def available_cores() -> int:
    """EARSHOT_CORES, where several processes share a machine that pins none of them; else cores this one may run on."""
    if os.environ.get(CORES, "").isdigit():
        return max(1, int(os.environ[CORES]))
    return len(usable_cores())


@dataclass(frozen=True)
class _Task:
    """Some metrics of one clip; `enhancer` is pickled so that a worker opens it once and knows it again."""

    index: int
    clip: Clip
    metrics: tuple[str, ...]
    rate: int
    enhancer: bytes


@dataclass(frozen=True)
class _Outcome:
    """Metric name -> value, or -> why there is none."""

    values: dict[str, float]
    failures: dict[str, str]


def _score(task: _Task) -> _Outcome:
    """Runs in a worker. Only what is wrong with the request (EarshotError) is raised; the rest is the clip's reason."""
    enhance = _opened(task.enhancer, task.rate)
    clean, noisy = task.clip.load()
    if clean.shape != noisy.shape[-1:]:
        raise DataError(f"clip {task.clip.id}: clean has {clean.shape} samples, noisy {noisy.shape}")
    try:
        signals = Signals.checked(clean, _enhanced(enhance, noisy), task.rate)
    except UnscorableError as reason:
        return _Outcome({}, dict.fromkeys(task.metrics, str(reason)))
    values, failures = {}, {}
    for name in task.metrics:
        try:
            values[name] = _finite(resolve(name).score(signals))
        except UnscorableError as reason:
            failures[name] = str(reason)
        except Exception as error:  # noqa: BLE001 - a metric library may raise anything; it costs this clip only
            failures[name] = f"{type(error).__name__}: {error}"
    return _Outcome(values, failures)


@lru_cache(maxsize=1)
def _opened(enhancer: bytes, rate: int) -> Enhance:
    specification: Enhancer = pickle.loads(enhancer)
    try:
        with quiet():  # every worker's runtime would announce itself across the progress bar
            return specification.open(rate)
    except EarshotError:
        raise
    except Exception as error:
        raise ToolError(f"{specification.describe()}: cannot be opened ({type(error).__name__}: {error})") from error


def _enhanced(enhance: Enhance, noisy: np.ndarray) -> np.ndarray:
    try:
        return enhance(noisy)
    except EarshotError:
        raise
    except Exception as error:
        raise UnscorableError(f"enhancing failed ({type(error).__name__}: {error})") from error


def _finite(value: float) -> float:
    if not np.isfinite(value):
        raise UnscorableError(f"the metric is {value}")
    return float(value)


def _run(pool: ProcessPool, tasks: Sequence[_Task], timeout: float) -> Iterator[tuple[int, _Outcome]]:
    """Outcomes as clips finish, each clip once."""
    partial: dict[int, _Outcome] = {}
    missing = {task.index: len(task.metrics) for task in tasks}
    pending: dict[Future[Any], _Task] = {pool.schedule(_score, (task,), timeout=timeout): task for task in tasks}
    while pending:
        done, _ = wait(pending, timeout + _STARTUP_SECONDS, FIRST_COMPLETED)
        if not done:  # some task always runs, and none may run longer than its timeout
            raise ToolError(f"scoring stands still: {len(pending)} clips wait and no worker answers")
        for future in done:
            task = pending.pop(future)
            outcome = _outcome(future, task, timeout)
            if outcome is None:
                for name in task.metrics:
                    alone = replace(task, metrics=(name,))
                    pending[pool.schedule(_score, (alone,), timeout=timeout)] = alone
                continue
            known = partial.pop(task.index, _Outcome({}, {}))
            merged = _Outcome(known.values | outcome.values, known.failures | outcome.failures)
            if len(merged.values) + len(merged.failures) == missing[task.index]:
                yield task.index, merged
            else:
                partial[task.index] = merged


def _outcome(future: Future[Any], task: _Task, timeout: float) -> _Outcome | None:
    """A task's outcome; None where the worker was lost and it is not known to which metric."""
    from pebble import ProcessExpired

    try:
        return future.result()
    except ProcessExpired as error:
        reason = f"the worker process died ({_death(error.exitcode)})"
    except TimeoutError:
        reason = f"no result within {timeout:.0f} s"
    except BrokenExecutor as error:
        raise ToolError(
            f"scoring workers cannot be kept running ({error})",
            "a script that calls evaluate() needs the guard: if __name__ == '__main__'",
        ) from error
    return None if len(task.metrics) > 1 else _Outcome({}, {task.metrics[0]: reason})


def _death(exitcode: int) -> str:
    if exitcode >= 0:
        return f"exit code {exitcode}"
    try:
        return signal.Signals(-exitcode).name
    except ValueError:
        return f"signal {-exitcode}"


@contextmanager
def _single_threaded_children() -> Iterator[None]:
    """Numeric libraries read these once, at import, so they must be set before a worker starts."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _checked_metrics(names: Sequence[str], rate: int) -> dict[str, Metric]:
    if not names:
        raise UsageError("no metric was asked for")
    chosen = {name: resolve(name) for name in names}
    for name, metric in chosen.items():
        if rate < metric.minimum_rate:
            raise UsageError(f"metric '{name}' needs data at {metric.minimum_rate} Hz or more, this is at {rate} Hz")
    return chosen


def _check_ids(clips: Sequence[Clip]) -> None:
    if not clips:
        raise UsageError("no clips to evaluate", "check the data section: its test or validation split is empty")
    ids = [clip.id for clip in clips]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise UsageError(f"clip ids are not unique, for one: {twice[0]}")


def _pickled(enhancer: Enhancer) -> bytes:
    try:
        return pickle.dumps(enhancer)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(f"{enhancer.describe()} cannot be sent to worker processes ({error})") from error


def _bytes(clip: Clip) -> int:
    """Size of the files a pair reads: large ones start first, so that no worker is left alone with a long one."""
    files: Sequence[Path] = getattr(getattr(clip, "source", None), "files", ())
    return sum(path.stat().st_size for path in files if path.is_file())


def _row(clip: Clip, outcome: _Outcome, metrics: Sequence[str]) -> ClipScore:
    return ClipScore(
        id=clip.id,
        group=clip.group,
        snr_db=clip.snr_db,
        values={name: outcome.values[name] for name in metrics if name in outcome.values},
        failures={name: outcome.failures[name] for name in metrics if name in outcome.failures},
    )
