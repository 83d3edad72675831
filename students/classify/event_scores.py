"""Found events against listed ones: misses, and false alarms an hour.

Events are compared by any overlap, as false alarms of detectors that run for days usually are (OVLP: Ziyabari et
al., Objective Evaluation Metrics for Automatic Classification of EEG Events, 2017, section 2.3): a listed event is
found if the same class was on at any time of it, a found one is a false alarm if nothing listed of its class was
there. Several found events within a listed one are no false alarms, and one found event may find several. DCASE
compares onsets within 0.2 s (Mesaros et al., Metrics for Polyphonic Sound Event Detection, 2016), which a decision
about a window of a second cannot reach.

What is decided comes later than what is heard: windows that begin within an event end up to one window after it, and
smoothing adds its time constant. Listed events count as that much longer; nothing is allowed before they begin.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from students.classify.event_files import Event
from students.classify.live import Moment
from students.smoothing import NONE_OF_THEM

FOUND, MISSED, FALSE_ALARM = "found", "missed", "false alarm"
_S_PER_HOUR = 3600


class Heard(NamedTuple):
    """A recording as the student heard it."""

    events: list[Event]
    """Where a class was on."""
    duration_s: float
    """Seconds up to the end of the last window; 0 if there was none."""


class Verdict(NamedTuple):
    """A listed event that was found or missed, or a false alarm."""

    event: Event
    word: str


class Score(NamedTuple):
    """What a device would do with one class, or with all of them."""

    name: str
    n_listed: int
    n_missed: int
    n_false: int


def collect_events(moments: Iterable[Moment], classes: Sequence[str]) -> Heard:
    """Return when which class was on; what is on at the end of the sound ends with it."""
    events: list[Event] = []
    on, since_s, at_s = NONE_OF_THEM, 0.0, 0.0
    for at_s, now, _ in moments:
        if now != on:
            if on != NONE_OF_THEM:
                events.append(Event(since_s, at_s, classes[on]))
            on, since_s = now, at_s
    if on != NONE_OF_THEM:
        events.append(Event(since_s, at_s, classes[on]))
    return Heard(events, at_s)


def judge(found: Sequence[Event], listed: Sequence[Event], late_s: float) -> list[Verdict]:
    """Return a verdict on each listed event and on each false alarm, by their start.

    Args:
        found: when which class was on.
        listed: what there was to be heard.
        late_s: how long after a listed event it may still be found, in seconds.
    """
    verdicts = [
        Verdict(event, FOUND if any(_meet(each, event, late_s) for each in found) else MISSED)
        for event in listed
    ]
    verdicts += [
        Verdict(each, FALSE_ALARM)
        for each in found
        if not any(_meet(each, event, late_s) for event in listed)
    ]
    return sorted(verdicts, key=lambda verdict: verdict.event)


def _meet(found: Event, listed: Event, late_s: float) -> bool:
    return (
        found.scene == listed.scene
        and found.start_s <= listed.end_s + late_s
        and found.end_s >= listed.start_s
    )


def count_scores(verdicts: Sequence[Verdict], classes: Sequence[str]) -> list[Score]:
    """Return the scores of each class, and those of all."""
    by_class = [
        Score(name, *_count([each for each in verdicts if each.event.scene == name]))
        for name in classes
    ]
    return [*by_class, Score("all", *_count(verdicts))]


def _count(verdicts: Sequence[Verdict]) -> tuple[int, int, int]:
    words = [verdict.word for verdict in verdicts]
    n_missed, n_false = words.count(MISSED), words.count(FALSE_ALARM)
    return len(words) - n_false, n_missed, n_false


def render_verdicts(verdicts: Iterable[Verdict]) -> str:
    """Return a line for each: start and end in seconds, class, verdict."""
    return "".join(
        f"{event.start_s:.2f}\t{event.end_s:.2f}\t{event.scene}\t{word}\n"
        for event, word in verdicts
    )


def render_scores(scores: Sequence[Score], duration_s: float) -> str:
    """Return the scores as a table for people."""
    width = max(len(score.name) for score in scores)
    lines = [f"{'':{width}}  events  missed        false alarms  an hour\n"]
    for name, n_listed, n_missed, n_false in scores:
        share = f"{100 * n_missed / n_listed:3.0f} %" if n_listed else "    -"
        an_hour = n_false * _S_PER_HOUR / duration_s
        lines.append(
            f"{name:<{width}}  {n_listed:6}  {n_missed:6} {share}  {n_false:12}  {an_hour:7.1f}\n"
        )
    return "".join(lines)
