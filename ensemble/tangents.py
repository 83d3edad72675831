"""Lower bounds of a convex loss of a mean, from its tangents (M members).

A convex loss lies above each of its tangents, so that one gradient bounds what every candidate can
reach from below, and goes on to do so after other members were added. Written for the mean of k
members whose sum is S, a tangent is

    loss(mean) >= constant + <slope, S> / k,

and adding a member m changes <slope, S> by the product <slope, x_m>, which the bound needs anyway:
old tangents cost nothing.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Tangents:
    """All tangents so far of one selection."""

    def __init__(self, n_members: int) -> None:
        self._constants = np.empty(0)
        self._heights = np.empty(0)
        self._products = np.empty((0, n_members))

    def touch(self, constant: float, height: float, products_M: Floats) -> None:
        """Take a tangent in.

        Args:
            constant: as above.
            height: <slope, S> of the members that are chosen now.
            products_M: a lower bound of <slope, x_m>; NaN where it is not known.
        """
        self._constants = np.append(self._constants, constant)
        self._heights = np.append(self._heights, height)
        self._products = np.vstack([self._products, products_M])

    def add(self, member: int) -> None:
        """Follow the addition of a member; tangents that do not know its product are given up."""
        heights = self._heights + self._products[:, member]
        known = ~np.isnan(heights)
        self._constants, self._heights = self._constants[known], heights[known]
        self._products = self._products[known]

    def bounds(self, n_members: int) -> Floats:
        """[M], what the mean loss is at least if one is added; -inf where nothing is known.

        Args:
            n_members: how many there are after the addition.
        """
        heights = self._heights[:, None] + self._products
        bounds = self._constants[:, None] + heights / n_members
        return np.fmax.reduce(bounds, axis=0, initial=-np.inf)
