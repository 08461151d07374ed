"""`RowData`: folders of training rows as the data sets of one run, read as its stage says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from molmo2_ground.errors import SourceError
from molmo2_ground.eval.suites.records import BadRowError
from molmo2_ground.model.resize_plan import resize_frame
from molmo2_ground.train.example import CropRule
from molmo2_ground.train.example_source import ExampleMaker, RowSource
from molmo2_ground.train.mixture import Group, Member, Mixture
from molmo2_ground.train.row_checks import hold_to_rules
from molmo2_ground.train.row_folder import RowFolder
from molmo2_ground.train.row_media import RowSampling, open_row_clip
from molmo2_ground.train.row_tree import RowTree, row_tree
from molmo2_ground.train.tree import BranchWriter

if TYPE_CHECKING:
    import numpy as np

    from molmo2_ground.clip import Clip, RgbArray
    from molmo2_ground.model.flags import InputFlags
    from molmo2_ground.model.text_codec import TextCodec
    from molmo2_ground.train.rows import Row
    from molmo2_ground.train.stages import StageConfig
    from molmo2_ground.train.task_rules import TaskRules


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowData:
    """Folders by the names of their data sets, how often each is drawn, and which sets are not here.

    missing  data sets of the table that have no folder.
    """

    folders: Mapping[str, RowFolder]
    mixture: Mixture
    missing: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """Rows of each data set."""
        return {name: len(rows) for name, rows in self.folders.items()}


def open_folders(paths: Sequence[str | Path], *, rates: Sequence[float] = ()) -> RowData:
    """Any folders of rows, each a data set called as its folder.

    rates  one a folder: only their ratio counts. Without, a folder is drawn by the root of its size.
    Raises `SourceError` for a folder without rows, `ValueError` for rates that do not go with the folders.
    """
    if not paths:
        raise ValueError("expected one folder of rows or more, got none")
    if rates and len(rates) != len(paths):
        raise ValueError(f"expected a rate for each folder, {len(paths)} in all; got {len(rates)}")
    if len({Path(path).resolve() for path in paths}) < len(paths):
        raise ValueError("a folder is named twice; give it a higher rate instead")
    alike = len({Path(path).resolve().name for path in paths}) < len(paths)
    folders = {
        str(path) if alike else Path(path).resolve().name: _filled(Path(path).expanduser()) for path in paths
    }
    # Places are what this is for, so pictures of any folder are cut as the recipe cuts those it points in.
    members = [Member(name=name, kind="pointing") for name in folders]
    groups = (
        tuple(
            Group(name=one.name, rate=rate, members=(one,)) for one, rate in zip(members, rates, strict=True)
        )
        if rates
        else (Group(name="folders", rate=1.0, members=tuple(members)),)
    )
    return RowData(folders=folders, mixture=Mixture(groups=groups))


def open_root(root: str | Path, mixture: Mixture) -> RowData:
    """The data sets of a table that lie below a folder, each in a folder of its name.

    Raises `SourceError` when none is there, or one of them cannot be read.
    """
    root = Path(root).expanduser()
    names = [member.name for member in mixture.members]
    here = [name for name in names if (root / name).is_dir()]
    if not here:
        raise SourceError(
            f"{root} holds none of the {len(names)} data sets of this stage; expected folders of rows named "
            f"{', '.join(names[:3])}, … (train/README.md)"
        )
    return RowData(
        folders={name: _filled(root / name) for name in here},
        mixture=mixture.only(set(here)),
        missing=tuple(name for name in names if name not in here),
    )


def row_maker(
    data: RowData, stage: StageConfig, *, codec: TextCodec, flags: InputFlags, context_tokens: int
) -> ExampleMaker:
    """What makes the examples of these folders as the stage says: frames, crops, words, weights.

    context_tokens  the most that the model reads: no example is longer, though a row of several may be.
    """
    side = flags.image_size_px
    sampling = RowSampling(max_frames=stage.max_frames, max_fps=stage.max_fps)
    resize = partial(resize_frame, height_px=side, width_px=side)  # only small frames are kept in memory
    sources = {
        name: RowSource(
            rows=rows,
            open_clip=partial(
                _open, folder=rows.folder, sampling=sampling, resize=resize, max_images=stage.max_images
            ),
            make_tree=partial(_tree, codec=codec, flags=flags, rules=stage.rules),
        )
        for name, rows in data.folders.items()
    }
    pointing = CropRule(
        max_crops=stage.image_crops,
        high_res_crops=stage.image_crops_large,
        high_res_share=stage.image_share_large,
    )
    plain = CropRule(max_crops=stage.image_crops)
    return ExampleMaker(
        sources=sources,
        writer=BranchWriter(codec=codec, rule=stage.weight_rule),
        flags=flags,
        seed=stage.data_seed,
        max_tokens=min(stage.limits.max_tokens, context_tokens),
        crops={one.name: pointing if one.kind == "pointing" else plain for one in data.mixture.members},
    )


def _open(
    row: Row,
    *,
    folder: Path,
    sampling: RowSampling,
    resize: Callable[[RgbArray], RgbArray],
    max_images: int,
) -> Clip | None:
    if row.kind != "video" and len(row.media) > max_images:
        raise BadRowError(
            f"the row shows {len(row.media)} pictures; this stage shows {max_images} at most: make several "
            "rows of it, or raise max_images"
        )
    hold_to_rules(row)
    clip = open_row_clip(row, folder, sampling=sampling, resize=resize)
    if clip is not None and clip.frames and not row.size_px:
        hold_to_rules(row, sizes_px=[(frame.width_px, frame.height_px) for frame in clip.frames])
    return clip


def _tree(
    row: Row,
    clip: Clip | None,
    *,
    rng: np.random.Generator,
    codec: TextCodec,
    flags: InputFlags,
    rules: TaskRules,
) -> RowTree:
    """The row's tree; `BadRowError` with the reasons when nothing of the row can be asked."""
    made = row_tree(row, clip, codec=codec, flags=flags, rng=rng, rules=rules)
    if not made.tree.branches:
        raise BadRowError(f"nothing of it can be asked: {'; '.join(map(str, made.left_out))}")
    return made


def _filled(path: Path) -> RowFolder:
    rows = RowFolder(path)
    if not len(rows):
        raise SourceError(f"{path} holds no row")
    return rows
