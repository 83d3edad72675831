"""What a trial runs, in a worker of Ray Tune."""

import math
from typing import Any

import torch
from ray import tune

from jobs.cluster import reserved_device
from jobs.fanout import give_memory_back
from jobs.journal import Lesson, checkpoint_object, in_words
from jobs.unit_log import logged, tell
from jobs.units import soft_of, tell_epoch
from students import check_views
from students.distill import student_run
from students.search_space import shortened
from training import Figures, fit
from training.checkpoint import Checkpoint


def attempt(config: dict[str, Any], lesson: Lesson) -> None:
    """Teach the student of one point, and tell Tune what it is worth after each epoch.

    Goes on from its checkpoint; the epochs before that are told again. An error of its own is told
    and not raised: Tune would repeat what fails each time. What it repeats are lost workers.

    Args:
        config: `id`, `point`, `taught_by` and `seed` of the trial, and its `unit`, whose log is kept.
        lesson: all else.
    """
    torch.set_num_threads(lesson.cpus)
    try:
        with logged(config["unit"]):
            _learn(config, lesson)
    except FloatingPointError as error:
        tune.report({"state": "diverged", "error": str(error)})
    except Exception as error:  # noqa: BLE001 - whatever it is, the other trials go on
        tune.report({"state": "failed", "error": f"{type(error).__name__}: {error}"})
    finally:
        give_memory_back()


def _learn(config: dict[str, Any], lesson: Lesson) -> None:
    store, corpus = lesson.where.open()
    recipe = shortened(lesson.space.recipe(config["point"]), lesson.epochs)
    tell(f"{in_words(config['point']) or recipe.name}, taught by {config['taught_by'] or 'labels'}")
    soft = None
    if recipe.distillation is not None:
        n_views = recipe.distillation.n_views
        soft = soft_of(store, corpus.name, lesson.split, config["taught_by"], n_views)
        check_views(recipe, soft.members, store, lesson.responses)
    run, _ = student_run(
        recipe,
        corpus,
        lesson.split,
        config["seed"],
        soft,
        responses=lesson.responses,
        device=reserved_device(),
    )
    checkpoint = Checkpoint(store, checkpoint_object(lesson.search, config["id"]))
    for figures in checkpoint.history():
        _report(figures)
    fit(run, checkpoint, _report_new)


def _report_new(figures: Figures) -> None:
    tell_epoch(figures, "select")
    _report(figures)


def _report(figures: Figures) -> None:
    loss = figures["select_log_loss"]
    if not math.isfinite(loss):
        raise FloatingPointError(f"the log loss on select after epoch {figures['epoch']} is {loss}")
    tune.report({name: figures[name] for name in ("epoch", "select_log_loss", "select_accuracy")})
