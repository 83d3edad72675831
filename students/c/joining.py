"""Joins expressions along their channels: what both have in common is written once."""

from students.c.expressions import Combine, Deal, Expression, Join, Rectify


def join(first: Expression, second: Expression) -> Expression | None:
    """Return the channels of one sum, then those of another, if both add to channels dealt of the same map.

    The sums become one sum, of the dealt channels and of what is added to either half. None: they have nothing
    in common.
    """
    whole = _join_dealt(first, second)
    if whole is not None:
        return whole
    match first, second:
        case Rectify(), Rectify():
            inside = join(first.value, second.value)
            return None if inside is None else Rectify(inside)
        case Combine(), Combine() if first.arithmetic == second.arithmetic:
            left, right = join(first.left, second.left), join(first.right, second.right)
            if left is None and right is None:
                return None
            left = left or Join(first.left, second.left)
            return Combine(first.arithmetic, left, right or Join(first.right, second.right))
    return None


def _join_dealt(first: Expression, second: Expression) -> Deal | None:
    """Return neighbouring channels of one deal as one."""
    match first, second:
        case Deal(), Deal() if first.value is second.value and first.groups == second.groups:
            if second.start == first.start + first.count:
                return Deal(first.value, first.groups, first.count + second.count, first.start)
    return None
