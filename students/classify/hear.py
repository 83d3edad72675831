"""A listener hears a microphone, a stream, a file, or a recording with a list of its events."""

import sys
from collections.abc import Sequence
from pathlib import Path

from audio.errors import UnfitName, UnfitSound
from audio.sound_folders import check_name
from students.classify.event_files import EventList
from students.classify.event_scores import (
    collect_events,
    count_scores,
    judge,
    render_scores,
    render_verdicts,
)
from students.classify.files import open_recording
from students.classify.live import Listener, print_changes, show_bars
from students.classify.messages import complain
from students.classify.streams import Sound


def hear_live(listener: Listener, sound: Sound) -> int:
    """Print what is on when it changes, or show bars in a terminal, until the sound ends, or Ctrl-C.

    Raises:
        UnfitSound: there is no sound, or it cannot be read on.
    """
    show = show_bars if sys.stdout.isatty() else print_changes
    try:
        if not show(listener.follow(sound), listener.student.classes):
            raise UnfitSound("standard input holds no samples")
    except KeyboardInterrupt:
        sys.stdout.write("\n")
    return 0


def hear_file(listener: Listener, file: Path) -> int:
    """Print what is on in a file when it changes; return 1 if it cannot be classified."""
    try:
        check_name(file)
        sound = open_recording(file)
    except (UnfitName, OSError) as error:
        return complain(error)
    except UnfitSound as error:
        return complain(UnfitSound(f"{file}: {error}"))
    try:
        if not print_changes(listener.follow(sound), listener.student.classes, f"{file}\t"):
            raise UnfitSound("holds no samples")
    except UnfitSound as error:
        return complain(UnfitSound(f"{file}: {error}"))
    return 0


def hear_recording(listener: Listener, files: Sequence[Path], listed: EventList) -> int:
    """As `hear_events`, of a file; return 1 if it cannot be classified.

    Raises:
        UnfitSound: it is not one file.
        UnfitEvents: as of `hear_events`.
    """
    if len(files) > 1:
        raise UnfitSound(f"--events {listed.file}: expected one FILE, and these are {len(files)}")
    try:
        sound = open_recording(files[0])
    except OSError as error:
        return complain(error)
    except UnfitSound as error:
        return complain(UnfitSound(f"{files[0]}: {error}"))
    try:
        return hear_events(listener, sound, listed)
    except UnfitSound as error:
        return complain(UnfitSound(f"{files[0]}: {error}"))


def hear_events(listener: Listener, sound: Sound, listed: EventList) -> int:
    """Print what was found, missed or a false alarm in a sound, and a table of how often.

    Raises:
        UnfitSound: there is no sound, or it cannot be read on.
        UnfitEvents: the list goes on after the end of the sound.
    """
    classes = listener.student.classes
    heard = collect_events(listener.follow(sound), classes)
    if not heard.duration_s:
        raise UnfitSound("holds no samples")
    listed.check_end(heard.duration_s + listener.hop_s)
    verdicts = judge(heard.events, listed.events, listener.late_s)
    scores = count_scores(verdicts, classes)
    sys.stdout.write(render_verdicts(verdicts) + "\n" + render_scores(scores, heard.duration_s))
    sys.stdout.write(
        f"{heard.duration_s:,.0f} s heard; an event is found if its class is on at any time "
        f"from its start to {listener.late_s:g} s after its end\n"
    )
    return 0
