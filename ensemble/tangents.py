"""Lower bounds of a convex loss of a mean, from its tangents (M members).

A convex loss is above each of its tangents. So one gradient gives a lower bound for every
candidate, which remains valid after other members are added. For the mean of k members whose sum is
S, a tangent is

    loss(mean) >= constant + <slope, S> / k,

and adding a member m changes <slope, S> by the product <slope, x_m>, which the bound needs anyway,
so keeping old tangents costs nothing.
"""

import numpy as np

from metrics.scores import Floats


class Tangents:
    """All tangents of one selection so far."""

    def __init__(self, n_members: int) -> None:
        self._constants = np.empty(0)
        self._heights = np.empty(0)
        self._products = np.empty((0, n_members))

    def append(self, constant: float, height: float, products_M: Floats) -> None:
        """Add a tangent.

        Args:
            constant: as above.
            height: <slope, S> of the members that are chosen now.
            products_M: a lower bound of <slope, x_m>; NaN where it is unknown.
        """
        self._constants = np.append(self._constants, constant)
        self._heights = np.append(self._heights, height)
        self._products = np.concatenate([self._products, products_M[None]])

    def add(self, member: int) -> None:
        """Follow the addition of a member; tangents without its product are dropped."""
        heights = self._heights + self._products[:, member]
        known = ~np.isnan(heights)
        self._constants, self._heights = self._constants[known], heights[known]
        self._products = self._products[known]

    def bound(self, n_members: int) -> Floats:
        """Return lower bounds of the mean loss after adding each member, [M]; -inf where unknown.

        Args:
            n_members: the number of members after the addition.
        """
        heights = self._heights[:, None] + self._products
        bounds = self._constants[:, None] + heights / n_members
        return np.fmax.reduce(bounds, axis=0, initial=-np.inf)
