"""An ensemble's picture (M members)."""

from xml.etree import ElementTree

import numpy as np
import pytest

from report.ensemble_picture import draw_ensemble

DOCUMENT = {
    "members": [
        {"member": "mn10_as-0123456789ab", "weight": 0.75},
        {"member": "cpr_128-0123456789ab", "weight": 0.25},
    ],
    "order": ["mn10_as-0123456789ab", "cpr_128-0123456789ab", "mn10_as-0123456789ab"],
    "losses": [1.2, 1.0, 0.9],
    "fold": "select",
    "settings": {"metric": "log_loss"},
}


def test_the_picture_is_an_svg_and_equal_each_time() -> None:
    agreement_MM = np.array([[1.0, 0.625], [0.625, 1.0]])
    picture = draw_ensemble("mine@0, tau, split 25", DOCUMENT, agreement_MM)
    assert ElementTree.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"
    assert picture == draw_ensemble("mine@0, tau, split 25", DOCUMENT, agreement_MM)
    assert picture != draw_ensemble("mine@0, tau, split 25", DOCUMENT, agreement_MM**2)


def test_agreement_of_other_members_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 3\) for 2 members"):
        draw_ensemble("mine", DOCUMENT, np.eye(3))
