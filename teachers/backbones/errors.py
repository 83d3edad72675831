"""What can go wrong with backbones, besides their weights (`teachers.errors`)."""


class UnknownBackbone(ValueError):
    """There is no backbone of that name; the message lists what exists."""


class LeakyBackbone(ValueError):
    """A backbone has learnt labels that a split must not know."""
