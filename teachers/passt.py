"""PaSST teachers: a transformer over patches of a log-mel, some of them left out in training.

B clips in a batch, K classes, D embedding, H rows (frequency) and W columns (time) of patches,
N tokens.
"""

from dataclasses import dataclass

import torch
from hear21passt.models.passt import PaSST as HearPaSST
from torch import Tensor

N_MELS = 128
PATCH = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchDraw:
    """The part of the patch grid that a forward pass uses: in evaluation all of it, from offset 0.

    Indices are ascending and lie on the CPU; None keeps everything.
    """

    time_offset: int = 0
    """The time position of the first column."""
    columns: Tensor | None = None
    """Columns kept, out of W."""
    rows: Tensor | None = None
    """Rows kept, out of H."""
    patches: Tensor | None = None
    """Patches kept, out of those in the kept rows and columns, counted along time first."""


class PaSST(HearPaSST):
    """PaSST for log-mels (B, 1, 128, T) -> logits (B, K), embedding (B, D).

    Network and state_dict keys are those of the published checkpoints (Koutini et al. 2022,
    arXiv:2110.05069). Patches of 16 x 16 begin every `stride` bands and frames. Each row and each
    column has a position; there are columns for `frames`, the length that it was pretrained for.
    The embedding is the mean of the two class tokens. `head_dist` is in the checkpoints but not in
    the output: it never gets a gradient.

    In training each batch begins at a random time position, and loses some patches, the same ones
    for all its clips: `frequency_patchout` rows, `time_patchout` columns, then
    `unstructured_patchout` of the rest. All draws come from torch's global CPU generator.

    Raises:
        ValueError: If a size does not fit the others, or no patch would be left.
    """

    def __init__(
        self,
        n_classes: int,
        embed_dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        frequency_patchout: int = 6,
        time_patchout: int = 0,
        unstructured_patchout: int = 0,
        stride: int = 10,
        frames: int = 998,
    ) -> None:
        _check_size(n_classes, embed_dim, depth, heads)
        _check_grid(stride, frames)
        rows, columns = N_MELS // stride, frames // stride
        _check_dropped("frequency_patchout", frequency_patchout, rows, "rows")
        _check_dropped("time_patchout", time_patchout, columns, "columns")
        left = (rows - frequency_patchout) * (columns - time_patchout)
        _check_dropped("unstructured_patchout", unstructured_patchout, left, "patches")
        super().__init__(
            u_patchout=unstructured_patchout,
            s_patchout_t=time_patchout,
            s_patchout_f=frequency_patchout,
            img_size=(N_MELS, frames),
            patch_size=PATCH,
            stride=stride,
            in_chans=1,
            num_classes=n_classes,
            embed_dim=embed_dim,
            depth=depth,
            num_heads=heads,
            distilled=True,
        )
        self.n_rows, self.max_columns = rows, columns
        self.max_frames = PATCH + stride * columns - 1

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, K) and embedding (B, D) of log-mels (B, 1, 128, T).

        Raises:
            ValueError: If the shape is a different one, T is not within 16...`max_frames`, or
                patchout would leave nothing of such a short clip.
        """
        tokens = self.forward_features(x)
        embedding_BD = (tokens[0] + tokens[1]) / 2
        return self.head(embedding_BD), embedding_BD

    def forward_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two class tokens (B, D) after the last normalisation; `Raises` as in `forward`."""
        self._check_input(x)
        # Only the projection of `patch_embed`: its forward warns if a clip is not 10 s long.
        patches_BDHW = self.patch_embed.proj(x)
        n_columns = patches_BDHW.shape[3]
        draw = self.draw_patches(n_columns) if self.training else PatchDraw()
        tokens_BND = torch.cat(
            (self._make_class_tokens(len(x)), self._embed_kept(patches_BDHW, draw)), dim=1
        )
        tokens_BND = self.norm(self.blocks(tokens_BND))
        return tokens_BND[:, 0], tokens_BND[:, 1]

    def draw_patches(self, n_columns: int) -> PatchDraw:
        """Draw what a training batch keeps of a grid of all rows and `n_columns` columns.

        Raises:
            ValueError: If patchout would leave nothing.
        """
        _check_dropped("time_patchout", self.s_patchout_t, n_columns, "columns")
        left = (self.n_rows - self.s_patchout_f) * (n_columns - self.s_patchout_t)
        _check_dropped("unstructured_patchout", self.u_patchout, left, "patches")
        # The installed package always starts at position 0; the published training drew the start.
        time_offset = torch.randint(self.max_columns - n_columns + 1, (), device="cpu").item()
        return PatchDraw(
            time_offset=int(time_offset),
            columns=_draw_kept(n_columns, self.s_patchout_t),
            rows=_draw_kept(self.n_rows, self.s_patchout_f),
            patches=_draw_kept(left, self.u_patchout),
        )

    def _embed_kept(self, patches_BDHW: Tensor, draw: PatchDraw) -> Tensor:
        """Return the tokens (B, N, D) of the patches that `draw` keeps, each with its position."""
        end = draw.time_offset + patches_BDHW.shape[3]
        grid = patches_BDHW + self.time_new_pos_embed[..., draw.time_offset : end]
        grid = grid + self.freq_new_pos_embed
        grid = _select(grid, 3, draw.columns)
        grid = _select(grid, 2, draw.rows)
        return _select(grid.flatten(2).transpose(1, 2), 1, draw.patches)

    def _make_class_tokens(self, n_clips: int) -> Tensor:
        tokens_12D = torch.cat((self.cls_token, self.get_parameter("dist_token")), dim=1)
        return (tokens_12D + self.new_pos_embed).expand(n_clips, -1, -1)

    def _check_input(self, x: Tensor) -> None:
        shape = tuple(x.shape)
        if len(shape) != 4 or shape[1:3] != (1, N_MELS):
            raise ValueError(
                f"PaSST takes log-mels of shape (B, 1, {N_MELS}, T), got {shape}: "
                f"compute them by a front-end with {N_MELS} mel bands"
            )
        if not PATCH <= shape[3] <= self.max_frames:
            raise ValueError(
                f"PaSST takes {PATCH} to {self.max_frames} frames (1 to {self.max_columns} columns "
                f"of patches), got {shape[3]} in an input of shape {shape}: cut the clips, or "
                "lengthen the hop"
            )


def _draw_kept(size: int, n_dropped: int) -> Tensor | None:
    """Draw which of `size` places stay if `n_dropped` are dropped, ascending; None keeps all."""
    if n_dropped == 0:
        return None
    return torch.randperm(size, device="cpu")[: size - n_dropped].sort().values


def _select(tokens: Tensor, dim: int, kept: Tensor | None) -> Tensor:
    return tokens if kept is None else tokens.index_select(dim, kept.to(tokens.device))


def _check_size(n_classes: int, embed_dim: int, depth: int, heads: int) -> None:
    for name, value in (
        ("n_classes", n_classes),
        ("embed_dim", embed_dim),
        ("depth", depth),
        ("heads", heads),
    ):
        if value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")
    if embed_dim % heads:
        raise ValueError(f"embed_dim {embed_dim} is not a multiple of the {heads} heads")


def _check_grid(stride: int, frames: int) -> None:
    # The checkpoints count positions in whole strides, and patches where a whole patch fits. The
    # numbers must agree for rows; there may be fewer columns than positions.
    if stride < 1 or N_MELS // stride != (N_MELS - PATCH) // stride + 1:
        raise ValueError(
            f"stride is {stride}, expected one at which {N_MELS} bands hold as many patches as "
            "positions (published: 10, 12, 14, 16)"
        )
    if frames < PATCH:
        raise ValueError(f"frames is {frames}, expected at least {PATCH} (published: 998)")


def _check_dropped(name: str, n_dropped: int, n_places: int, what: str) -> None:
    if not 0 <= n_dropped < n_places:
        raise ValueError(
            f"{name} is {n_dropped}, expected 0 to {n_places - 1}: there are {n_places} {what} "
            "to drop from and one must stay"
        )
