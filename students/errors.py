"""What may be wrong with students and what teaches them.

    ValueError
        NoStudent            a member whose weights and recipe are not those of a student
        UnfitSoftLabels      soft labels of other clips, classes or views than the student's
        UnfitPool            a student that cannot learn from clips without labels
        UnfitLabels          a way of learning that needs the one true class of each clip
        NoPlan               a student whose memory on a device cannot be planned
        OverBudget           students.budget: it costs more than it may
        UnfitExportOptions   students.export.options: options that contradict each other
        UnfitDevice          students.device.options: a program that cannot be built or run here

A device has `students.runtime.UnfitModel`, and those of `students.classify`, beside their modules.
"""


class NoStudent(ValueError):
    """A member of the store that is not a student, or whose weights or recipe are missing."""


class UnfitSoftLabels(ValueError):
    """Soft labels that do not belong to the clips, classes or views that a student sees."""


class NoPlan(ValueError):
    """A student's memory on a device cannot be planned: C has no form of it; the message says why."""


class UnfitLabels(ValueError):
    """A student cannot learn from clips with several labels, or none; the message says why."""


class UnfitPool(ValueError):
    """A student cannot learn from clips without labels; the message says why."""
