"""`Checkpoint`: a folder in the released layout, read and checked before its weights are."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from molmo2_ground.errors import CheckpointError
from molmo2_ground.model.flags import InputFlags, SpecialIds
from molmo2_ground.model.int8 import saved_parameters, to_int8
from molmo2_ground.model.joined_linear import lay_together
from molmo2_ground.model.limits import ModelLimits
from molmo2_ground.model.text_codec import TextCodec
from molmo2_ground.model.weight_files import WeightEntry, read_json, weight_entries
from molmo2_ground.model.weights import HUB_EMBEDDING, HUB_NEW_EMBEDDING, to_hub

if TYPE_CHECKING:
    from transformers import Molmo2Config, Molmo2ForConditionalGeneration

_log = logging.getLogger(__name__)

_STORED_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
TINY_FOLDER = Path(__file__).parent / "tiny"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_WORDS_FILE = "processor_config.json"
_PICTURE_FILES = {
    "preprocessor_config.json": "image_processor",
    "video_preprocessor_config.json": "video_processor",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """A checkpoint whose every file but the weights' values has been read.

    model_id: what the caller asked for. revision: the hub's commit, None for a folder.
    """

    folder: Path
    model_id: str
    revision: str | None
    config: Molmo2Config
    flags: InputFlags
    codec: TextCodec
    entries: Mapping[str, WeightEntry]

    @property
    def parameters(self) -> int:
        """Numbers in all weight files."""
        return sum(math.prod(entry.shape) for entry in self.entries.values())

    @property
    def stored_bytes(self) -> int:
        """What the numbers take in the weight files."""
        return sum(entry.bytes for entry in self.entries.values())

    def stored_as(self, dtype: torch.dtype) -> bool:
        """Whether the weight files hold numbers of this type, so that loading converts none."""
        return {entry.dtype for entry in self.entries.values()} == {_STORED_NAMES.get(dtype)}

    @property
    def context_tokens(self) -> int:
        """Most tokens of a prompt and its answer together."""
        text: Any = self.config.text_config
        return int(text.max_position_embeddings)

    @property
    def limits(self) -> ModelLimits:
        """What the checkpoint reads at most."""
        flags = self.flags
        return ModelLimits(
            max_frames=flags.max_frames,
            track_frames=flags.track_frames,
            max_fps=flags.max_fps,
            max_crops=flags.max_crops,
            context_tokens=self.context_tokens,
        )

    def kv_bytes_per_token(self, dtype: torch.dtype) -> int:
        """Memory that each token of a prompt takes for its keys and values, bytes."""
        text: Any = self.config.text_config
        return int(2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim * dtype.itemsize)


def locate(path_or_id: str | Path, *, revision: str | None = None) -> tuple[Path, str, str | None]:
    """The folder of a checkpoint, its name for receipts, and the hub's commit.

    path_or_id: `tiny` (the one in this package), a folder, or a hub id such as `allenai/Molmo2-4B`, which is
    downloaded when it is not there yet. Raises `CheckpointError`.
    """
    name = str(path_or_id)
    if name == "tiny":
        return TINY_FOLDER, name, None
    folder = Path(path_or_id).expanduser()
    if folder.is_dir():
        return folder, name, None
    if folder.exists():
        raise CheckpointError(f"{name} is a file; a checkpoint is a folder in the released layout")
    if not _HUB_ID.fullmatch(name):
        raise CheckpointError(
            f"no checkpoint {name!r}: expected 'tiny', a folder, or a hub id like 'allenai/Molmo2-4B'"
        )
    return download(name, revision)


def download(hub_id: str, revision: str | None) -> tuple[Path, str, str | None]:
    """Fetch a checkpoint from the hub unless it is here already: its folder, its name, the hub's commit.

    Raises `CheckpointError`.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        folder = Path(
            snapshot_download(
                hub_id, revision=revision, allow_patterns=["*.json", "*.safetensors", "*.jinja"]
            )
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{hub_id} is no folder here and could not be fetched from the hub: {one_line(error)}"
        ) from error
    return folder, hub_id, folder.name


def open_checkpoint(path_or_id: str | Path, *, revision: str | None = None) -> Checkpoint:
    """Read and check everything of a checkpoint except the weights' values.

    Raises `CheckpointError` that names the file at fault.
    """
    folder, model_id, commit = locate(path_or_id, revision=revision)
    raw = read_json(folder / "config.json")
    config = _network_config(folder, raw)
    codec = _codec(folder)
    special = SpecialIds.read(raw, token_id=codec.token_id, where=str(folder))
    flags = InputFlags.from_files(_input_files(folder), special=special, where=str(folder))
    _check_sizes(folder, config, flags)
    entries = weight_entries(folder)
    _check_shapes(folder, config, entries)
    return Checkpoint(
        folder=folder,
        model_id=model_id,
        revision=commit,
        config=config,
        flags=flags,
        codec=codec,
        entries=entries,
    )


def _input_files(folder: Path) -> dict[str, dict[str, Any]]:
    """The three files of input settings; newer versions of the library write them as one."""
    words = read_json(folder / _WORDS_FILE)
    files = {_WORDS_FILE: words}
    for name, key in _PICTURE_FILES.items():
        nested = words.get(key)
        if not (folder / name).is_file() and isinstance(nested, dict):
            files[name] = nested
        else:
            files[name] = read_json(folder / name)
    return files


def _network_config(folder: Path, raw: Mapping[str, Any]) -> Molmo2Config:
    from transformers import Molmo2Config

    kind = raw.get("model_type")
    if kind != "molmo2":
        raise CheckpointError(
            f"{folder / 'config.json'}: model_type is {kind!r}, expected 'molmo2'; "
            "other models (MolmoPoint among them) write other answers and are not read here"
        )
    try:
        return Molmo2Config.from_pretrained(folder)
    # The library checks a config in many places and with many kinds of error.
    except Exception as error:
        raise CheckpointError(f"{folder / 'config.json'}: {one_line(error)}") from error


def _codec(folder: Path) -> TextCodec:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; a checkpoint in the released layout has it")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    # The tokenizer library raises plain Exception for a file it cannot read.
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read: {one_line(error)}") from error
    words = read_json(folder / "tokenizer_config.json")
    if (folder / "special_tokens_map.json").is_file():
        named = {key: word for key, word in words.items() if word is not None}
        words = {**read_json(folder / "special_tokens_map.json"), **named}
    eos_word = _word(words.get("eos_token"))
    # The released Qwen-based tokenizers name no first word; their prompts start with the end word.
    bos_word = _word(words.get("bos_token")) or eos_word
    if eos_word is None or bos_word is None:
        raise CheckpointError(
            f"{folder / 'tokenizer_config.json'} names no eos_token, which ends every answer"
        )
    stops: Any = []
    if (folder / "generation_config.json").is_file():
        stops = read_json(folder / "generation_config.json").get("eos_token_id") or []
    stop_ids = [stops] if isinstance(stops, int) else list(stops)
    return TextCodec(tokenizer, bos_word=bos_word, eos_word=eos_word, stop_ids=stop_ids, where=str(folder))


def _word(entry: Any) -> str | None:
    """A special word is written as a string, or as an object with settings."""
    if isinstance(entry, Mapping):
        entry = entry.get("content")
    return entry if isinstance(entry, str) else None


def _check_sizes(folder: Path, config: Molmo2Config, flags: InputFlags) -> None:
    vision: Any = config.vision_config
    same_size = list(vision.image_size) == [flags.image_size_px] * 2
    if not same_size or vision.patch_size != flags.patch_size_px:
        raise CheckpointError(
            f"{folder / 'preprocessor_config.json'}: pictures of {flags.image_size_px} px in patches of "
            f"{flags.patch_size_px} px, but config.json's vision tower reads {list(vision.image_size)} px in "
            f"patches of {vision.patch_size} px"
        )
    if vision.num_position_embeddings != flags.patches_per_side**2:
        raise CheckpointError(
            f"{folder / 'config.json'}: image_num_pos is {vision.num_position_embeddings}, "
            f"expected {flags.patches_per_side**2}, one for each patch"
        )


def _check_shapes(folder: Path, config: Molmo2Config, entries: Mapping[str, WeightEntry]) -> None:
    """Compare names and shapes with those that the config asks for."""
    from transformers import Molmo2ForConditionalGeneration

    with torch.device("meta"):
        native = Molmo2ForConditionalGeneration(config).state_dict()
    text: Any = config.text_config
    # Files written by the library may keep its own names; both layouts load.
    released = HUB_EMBEDDING in entries
    expected = to_hub(native, base_vocab=text.vocab_size) if released else native
    for name, tensor in expected.items():
        entry = entries.get(name)
        if entry is None:
            raise CheckpointError(f"{folder}: no weight file holds {name}, which config.json asks for")
        if released and name in (HUB_EMBEDDING, HUB_NEW_EMBEDDING):
            continue
        if entry.shape != tuple(tensor.shape):
            raise CheckpointError(
                f"{folder / entry.file}: {name} has shape {list(entry.shape)}, "
                f"expected {list(tensor.shape)} from config.json"
            )
    if released:
        _check_embedding(folder, text, entries)
    unknown = sorted(set(entries) - set(expected))
    if unknown:
        _log.warning("%s: %d weights have no place in the model, first %s", folder, len(unknown), unknown[0])


def _check_embedding(folder: Path, text: Any, entries: Mapping[str, WeightEntry]) -> None:
    # The two tables are joined; the library cuts them elsewhere when it saves, so only the sum is certain.
    base, extra = entries[HUB_EMBEDDING], entries[HUB_NEW_EMBEDDING]
    rows = text.vocab_size + text.additional_vocab_size
    found = [base.shape[0] + extra.shape[0], base.shape[-1], extra.shape[-1]]
    if found != [rows, text.hidden_size, text.hidden_size]:
        raise CheckpointError(
            f"{folder / base.file}: the two embedding tables have shapes {list(base.shape)} and "
            f"{list(extra.shape)}, expected {rows} rows of {text.hidden_size} together from config.json"
        )


def load_network(
    checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype, int8: bool = False
) -> Molmo2ForConditionalGeneration:
    """Build the library's network with the checkpoint's weights, ready to answer.

    int8: the language model's matrices as whole numbers; the rest and all sums are in `dtype`.
    Says in one log line how much memory it takes before it takes it. Raises `CheckpointError`.
    """
    from transformers import Molmo2ForConditionalGeneration

    _log.info("%s", memory_line(checkpoint, device=device, dtype=dtype, int8=int8))
    try:
        with without_progress_bars():
            loaded: Any = Molmo2ForConditionalGeneration.from_pretrained(
                checkpoint.folder,
                config=checkpoint.config,
                dtype=dtype,
                attn_implementation="sdpa",
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"{checkpoint.folder}: the weights cannot be read: {one_line(error)}"
        ) from error
    network, report = loaded
    lost = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if lost:
        raise CheckpointError(f"{checkpoint.folder}: no weights for {lost[0]} ({len(lost)} in all)")
    if int8:
        to_int8(network)
    moved: Molmo2ForConditionalGeneration = network.to(device).eval().requires_grad_(False)
    if device.type != "cpu":
        # A move takes weights apart. On a CPU, those of the released files lie together as they were stored,
        # and others stay in their files until they are used.
        lay_together(moved)
    return moved


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """The library loads weights without drawing its bars."""
    from transformers.utils import logging as library_logging

    bars = library_logging.is_progress_bar_enabled()
    library_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            library_logging.enable_progress_bar()


def memory_line(
    checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype, int8: bool = False
) -> str:
    """How much memory the weights take, and a prompt at most, in words."""
    weights = checkpoint.parameters * dtype.itemsize
    if int8:
        weights -= saved_parameters(checkpoint.config.text_config) * (dtype.itemsize - 1)
    longest = checkpoint.kv_bytes_per_token(dtype) * checkpoint.context_tokens
    return (
        f"{checkpoint.model_id}: {checkpoint.parameters / 1e6:,.1f} million parameters, "
        f"{_size(weights)} as {'int8 and ' if int8 else ''}{str(dtype).removeprefix('torch.')} on {device}, "
        f"and up to {_size(longest)} for a prompt of {checkpoint.context_tokens:,} tokens"
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def one_line(error: Exception) -> str:
    """What an error says, without its line breaks."""
    return " ".join(str(error).split())
