"""A grid of ConvMixer cells with skips between columns (B clips, D features, K classes)."""

from collections import OrderedDict

from torch import Tensor, nn

from students.isotropic import check_patch, make_depthwise
from students.student import Student, check_sizes

LONGEST_SIDE = 10
"""Largest number of cells along a side: the published layer names have one digit for each axis."""


class Recursive(Student):
    """A grid of `depth` levels and `columns` columns of cells, computed column by column.

    Each cell has its own weights. In the first column a cell's skip is its input; in the others it
    comes from the column before, whose output of the same level is added to the cell's.

    Source: ASCDomain report, "Recursiv" ("Siren" in its code): 3x3, 2x2, 2x3 and 3x2 as depth x
    columns; parameters and MACs are those of an Isotropic student of depth x columns blocks.

    Args:
        n_classes: number of logits.
        filters: channels of all layers, and the length of `features`.
        depth: levels of the grid.
        columns: columns of the grid.
        kernel: side of the depthwise kernels.
        patch: side of the square patches.

    Raises:
        ValueError: a size below 1, a grid of one level and several columns, or a side over 10.
    """

    def __init__(
        self,
        n_classes: int,
        filters: int = 64,
        depth: int = 3,
        columns: int = 3,
        kernel: int = 3,
        patch: int = 5,
    ) -> None:
        super().__init__()
        check_sizes(n_classes=n_classes, filters=filters, kernel=kernel, patch=patch)
        _check_grid(depth, columns)
        self.depth, self.columns, self.patch = depth, columns, patch
        self.n_features = filters
        self.stem = _name_layers(
            conv=nn.Conv2d(1, filters, patch, stride=patch), activation=_make_activation(filters)
        )
        self.mixer_blocks = nn.ModuleDict(
            {
                _name_place(column, level): _Cell(filters, kernel)
                for column in range(columns)
                for level in range(depth)
            }
        )
        self.classification_block = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(filters, n_classes)
        )

    def features(self, inputs_BCFT: Tensor) -> Tensor:
        """Return the pooled output of the last cell, (B, D)."""
        patches = self.stem(inputs_BCFT)
        x, before = patches, []
        for column in range(self.columns):
            outputs = []
            for level in range(self.depth):
                cell = self.mixer_blocks[_name_place(column, level)]
                if column == 0:
                    x = cell(x, x)
                else:
                    x = before[level] + cell(x, _find_skip(level, x, before, patches))
                outputs.append(x)
            before = outputs
        pool, flatten, _ = self.classification_block
        return flatten(pool(x))

    def classifier(self, features_BD: Tensor) -> Tensor:
        """Return logits (B, K)."""
        return self.classification_block[2](features_BD)

    def check_size(self, n_bands: int, n_frames: int) -> None:
        """Refuse inputs that are smaller than a patch.

        Raises:
            ValueError: the patch is larger than the input.
        """
        check_patch(self.patch, n_bands, n_frames)


class _Cell(nn.Module):
    def __init__(self, filters: int, kernel: int) -> None:
        super().__init__()
        self.depthwise_conv = make_depthwise(filters, kernel)
        self.pointwise_conv = nn.Conv2d(filters, filters, 1)
        self.activation_block = _make_activation(filters)
        self.activation_block2 = _make_activation(filters)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        # Only x passes the convolution: the skip is added after the norm.
        mixed = self.activation_block(self.depthwise_conv(x)) + skip
        return self.activation_block2(self.pointwise_conv(mixed))


def _find_skip(level: int, x: Tensor, before: list[Tensor], patches: Tensor) -> Tensor:
    """Return the skip that is added in a cell, in all columns but the first."""
    if level == 0:
        return before[1] + patches
    if level == len(before) - 1:
        return x
    return before[level + 1] + x


def _make_activation(filters: int) -> nn.Sequential:
    return _name_layers(activation=nn.GELU(), batch_norm=nn.BatchNorm2d(filters))


def _name_layers(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def _name_place(column: int, level: int) -> str:
    return f"block_{column}{level}"


def _check_grid(depth: int, columns: int) -> None:
    check_sizes(depth=depth, columns=columns)
    if depth == 1 and columns > 1:
        raise ValueError(
            f"depth=1 with columns={columns}, expected a depth of at least 2: a column's first "
            "skip comes from the second level of the column before"
        )
    if max(depth, columns) > LONGEST_SIDE:
        raise ValueError(
            f"a grid of depth={depth} and columns={columns}, expected at most {LONGEST_SIDE} each"
        )
