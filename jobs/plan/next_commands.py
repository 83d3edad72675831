"""Commands that follow a command of ours, as it prints them when it is done."""

from jobs.plan.options import CorpusOptions
from logit_store import strip_fingerprint


def make_export_command(options: CorpusOptions, member: str, *, in_c: bool = False) -> list[str]:
    """Return the command that exports a student for `python -m students.classify`, or in C for a device."""
    name = strip_fingerprint(member)
    form, to = ("c", f"{name}_c") if in_c else ("onnx-int8", f"{name}.onnx")
    how = ["--form", form, "--with-front-end", "--to", to]
    return ["python", "-m", "students.export", member, *options.list_data_options(), *how]
