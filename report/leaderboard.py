"""Who is best: a few systems at a glance, and the table of all."""

from html import escape
from typing import Any

import pyarrow as pa

from report.colours import ALONE_COLOUR, KINDS
from report.featured import ALONE, MEDIAN, featured, splits_of
from report.found import KINDS as KIND_ORDER
from report.page.tables import cell, filters, framed, header
from report.parts import Figure, Section
from report.results import Judged, Results

NAME = "leaderboard"

SCHEMA = pa.schema(
    {
        "system": pa.string(),
        "kind": pa.string(),
        "split": pa.int64(),
        "protocol": pa.string(),
        "seeds": pa.int64(),
        "accuracy": pa.float64(),
        "low": pa.float64(),
        "high": pa.float64(),
        "seed_deviation": pa.float64(),
        "seen": pa.float64(),
        "unseen": pa.float64(),
        "log_loss": pa.float64(),
        "macs": pa.int64(),
        "parameter_bytes": pa.int64(),
        "training_h": pa.float64(),
        "family": pa.string(),
        "objective": pa.string(),
        "taught_by": pa.string(),
    }
)
"""Accuracies in percent, log loss in nats; bytes in float32, or int8 if it learnt in that."""

_HEADERS: tuple[tuple[str, str, str], ...] = (
    ("Split", "split", "Percent of the training clips"),
    ("Accuracy %", "accuracy", "Macro average over scenes, with its 95 % interval"),
    ("Seen %", "seen", "On recording devices that the training clips have"),
    ("Unseen %", "unseen", "On recording devices that the training clips lack"),
    ("Log loss", "log_loss", "Mean cross entropy in nats"),
    ("MACs", "macs", "Multiply-accumulates for one clip"),
    ("Size", "parameter_bytes", "Bytes of parameters, as the system was judged"),
    ("Hours", "training_h", "Of learning, for one run"),
)


def leaderboard(results: Results) -> Section:
    """The best of each kind at a glance, and all systems in a table."""
    if not results.systems:
        return Section(
            name=NAME,
            title="Leaderboard",
            text=f"The store has no logits of corpus {results.corpus.name} yet.",
        )
    rows = [_row(each) for each in _ranked(results)]
    figure = Figure(
        name=NAME,
        title="All systems",
        caption="Macro-average accuracy on the test clips in percent, a mean over seeds; the bar is "
        "its 95 % interval over recordings, from 0 to 100, and ± the standard deviation of the "
        "seeds. Log loss in nats. MACs: multiply-accumulates a clip; size: of the parameters as they "
        "were judged (float32; int8 takes a quarter). An ensemble costs what its members cost "
        "together. A dash: not recorded. A click on a header sorts.",
        table=pa.Table.from_pylist(rows, SCHEMA),
        html=_table(results),
    )
    return Section(
        name=NAME,
        title="Leaderboard",
        text=_said(results),
        html=_cards(results),
        figures=(figure,),
    )


def _said(results: Results) -> str:
    split = splits_of(results)[0]
    test = results.clips[split]
    return (
        f"At a glance: split {split}, on {len(test.rows)} test clips cut from "
        f"{len(set(test.recordings))} recordings. These systems were picked by their log loss on the "
        "select clips, or by what they were for; no test clip picked them."
    )


def _ranked(results: Results) -> list[Judged]:
    """The largest split first, in it the most accurate, of whatever kind."""
    return sorted(results.systems, key=lambda each: (-each.split, -each.summary.accuracy.value))


def _row(system: Judged) -> dict[str, Any]:
    figures, cost = system.summary, system.cost
    return {
        "system": system.name,
        "kind": system.kind,
        "split": system.split,
        "protocol": system.protocol,
        "seeds": system.n_seeds,
        "accuracy": 100 * figures.accuracy.value,
        "low": 100 * figures.accuracy.low,
        "high": 100 * figures.accuracy.high,
        "seed_deviation": _times(100, figures.seed_deviation),
        "seen": _times(100, figures.seen_accuracy),
        "unseen": _times(100, figures.unseen_accuracy),
        "log_loss": figures.log_loss,
        "macs": cost.macs,
        "parameter_bytes": cost.parameter_bytes,
        "training_h": _times(1 / 3600, cost.training_s),
        "family": system.family,
        "objective": system.objective,
        "taught_by": system.taught_by,
    }


def _times(factor: float, figure: float | None) -> float | None:
    return None if figure is None else factor * figure


# ---------- the cards ----------


def _cards(results: Results) -> str:
    shown = featured(results, splits_of(results)[0])
    cards = [_card(role, system) for role, system in shown.items() if role != MEDIAN]
    return f'<ul class="cards">{"".join(cards)}</ul>'


def _card(role: str, system: Judged) -> str:
    accuracy = system.summary.accuracy
    mark = ALONE_COLOUR if role == ALONE else KINDS[system.kind]
    seeds = f" · {system.n_seeds} seeds" if system.n_seeds > 1 else ""
    costs = (_short(system.cost.macs, "MACs"), _short(system.cost.parameter_bytes, "B"))
    return (
        f'<li class="card" style="--mark:{mark}"><p class="what">{role[0].upper()}{role[1:]}</p>'
        f'<p class="figure">{100 * accuracy.value:.1f} <small>% '
        f"({100 * accuracy.low:.0f}–{100 * accuracy.high:.0f})</small></p>"
        f"<p>{_breakable(system.name)} {_badge(system)}</p>"
        f'<p class="muted">log loss {system.summary.log_loss:.2f}{seeds}</p>'
        f'<p class="muted">{" · ".join(filter(None, costs))}</p></li>'
    )


def _short(figure: int | None, unit: str) -> str:
    """With three digits and a prefix, as in 29.7 MMACs; nothing where nothing is known."""
    if figure is None:
        return ""
    prefixes = [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")]
    size, prefix = next((each for each in prefixes if figure >= each[0]), (1, ""))
    return f"{figure / size:.3g} {prefix}{unit}"


def _badge(system: Judged) -> str:
    if system.protocol != "published":
        return ""
    return '<span class="badge alarm">judged on test</span>'


# ---------- the table ----------


def _table(results: Results) -> str:
    name = f"table-{NAME}"
    head = [header("System", is_number=False)] + [
        header(
            title,
            is_number=True,
            sorted_as="descending" if column == "accuracy" and _one_split(results) else "",
            note=note,
        )
        for title, column, note in _HEADERS
    ]
    rows = [_table_row(system) for system in _ranked(results)]
    return filters(name, _choices(results)) + framed(
        NAME, "All systems on the test clips", head, rows, "leaderboard"
    )


def _one_split(results: Results) -> bool:
    return len(splits_of(results)) == 1


def _choices(results: Results) -> str:
    """Which kinds and which split are shown."""
    kinds = [kind for kind in KIND_ORDER if results.of_kind(kind)]
    boxes = "".join(
        f'<label><input type="checkbox" name="kind" value="{kind}" checked>'
        f'<span class="kind" style="--mark:{KINDS[kind]}">{kind}s</span></label>'
        for kind in kinds
    )
    options = "".join(f'<option value="{each}">{each} %</option>' for each in splits_of(results))
    return (
        f'{boxes}<label>Split <select name="split"><option value="">all</option>{options}'
        "</select></label>"
    )


def _table_row(system: Judged) -> str:
    row = _row(system)
    texts = {
        "accuracy": _interval(system),
        "seen": _fixed(row["seen"], 1),
        "unseen": _fixed(row["unseen"], 1),
        "log_loss": _fixed(row["log_loss"], 3),
        "macs": _short(row["macs"], "") or "–",
        "parameter_bytes": _short(row["parameter_bytes"], "B") or "–",
        "training_h": _fixed(row["training_h"], 2),
    }
    cells = "".join(
        cell(row[column], is_number=True, text=texts.get(column)) for _, column, _ in _HEADERS
    )
    return (
        f'<tr data-kind="{system.kind}" data-split="{system.split}" '
        f'style="--mark:{KINDS[system.kind]}">{_name(system)}{cells}</tr>'
    )


def _name(system: Judged) -> str:
    alarm = ' class="alarm"' if system.protocol == "published" else ""
    facts = [system.kind]
    facts += [text for text in (system.family, system.objective) if text]
    facts += [f"{system.n_seeds} seeds"] if system.n_seeds > 1 else []
    return (
        f'<th scope="row"{alarm}><span class="kind">{_breakable(system.name)}</span> {_badge(system)}'
        f'<span class="details">{escape(", ".join(facts))}</span></th>'
    )


def _breakable(name: str) -> str:
    """A name that may go on in the next line after each of its parts."""
    return escape(name).replace("_", "_<wbr>")


def _interval(system: Judged) -> str:
    accuracy, deviation = system.summary.accuracy, system.summary.seed_deviation
    value, low, high = (100 * each for each in (accuracy.value, accuracy.low, accuracy.high))
    spread = "" if deviation is None else f" ± {100 * deviation:.1f}"
    return (
        f'<strong>{value:.1f}</strong>{spread} <span class="muted">({low:.0f}–{high:.0f})</span>'
        f'<span class="interval" style="--low:{low:.1f}%;--high:{high:.1f}%;--value:{value:.1f}%" '
        'aria-hidden="true"><i></i><b></b></span>'
    )


def _fixed(figure: float | None, digits: int) -> str:
    return "–" if figure is None else f"{figure:,.{digits}f}"
