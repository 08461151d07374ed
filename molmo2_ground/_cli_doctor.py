"""`molmo2-ground doctor`: what is installed, what runs, what is missing and how to get it."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from molmo2_ground import __version__
from molmo2_ground._cli_output import one_line
from molmo2_ground._optional import is_installed
from molmo2_ground.errors import GroundError

if TYPE_CHECKING:
    from molmo2_ground.model import Molmo2
    from molmo2_ground.model.inputs import ModelInputs

PACKAGE = "molmo2-ground"
# Import names, where they are not the names on the package index.
_MODULES = {"opencv-python-headless": "cv2", "pillow": "PIL", "pyzmq": "zmq"}
_DECODERS = {
    "h264": "H.264",
    "hevc": "H.265",
    "vp9": "VP9",
    "av1": "AV1",
    "mpeg4": "MPEG-4",
    "mjpeg": "Motion JPEG",
}
_ENCODERS = {"libx264": "H.264", "aac": "AAC"}
# Two packages that write into one folder: the extra, and the package that must not be there with it.
_RIVALS = {"onnx": "onnxruntime-gpu", "onnx-gpu": "onnxruntime"}
# Sums in another order differ in the last digits; a wrong mask or a missing layer differs in the first.
_TOLERANCE = {"torch.float32": 1e-3, "torch.bfloat16": 0.25, "torch.float16": 0.05}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the examination. `failed` means that questions cannot be answered as things are."""

    state: Literal["ok", "missing", "failed"]
    what: str
    words: str

    def __str__(self) -> str:
        return f"{self.state:8}{self.what:26}{self.words}"


def examine(
    model: str | None = None, *, device: str = "auto", dtype: str = "auto", vision: str = "torch"
) -> bool:
    """Print one line a finding to stdout; False when something that every question needs has failed.

    model, device, dtype, vision: as `molmo2_ground.load` takes them; model None for the default one.
    """
    healthy = True
    for finding in findings(model, device=device, dtype=dtype, vision=vision):
        print(finding, flush=True)
        healthy = healthy and finding.state != "failed"
    return healthy


def findings(
    model: str | None, *, device: str = "auto", dtype: str = "auto", vision: str = "torch"
) -> Iterator[Finding]:
    """Everything that is looked at, cheapest first."""
    system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Finding(state="ok", what=PACKAGE, words=f"{__version__}, {system}, {os.cpu_count()} processors")
    requirements = _requirements()
    yield from libraries(requirements)
    yield from _looked_at("devices", _devices)
    yield from _looked_at("video", _codecs)
    yield from _looked_at("onnxruntime", onnxruntime)
    yield from _looked_at("model", lambda: _model(model, device=device, dtype=dtype, vision=vision))
    yield from extras(requirements)


def _looked_at(what: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What `look` finds; when it cannot look at all, that is the finding."""
    try:
        yield from look()
    except Exception as error:  # an examination goes on: a broken library is what it is there to show
        ours = isinstance(error, GroundError) or type(error) is ValueError
        words = one_line(error) if ours else f"{type(error).__name__}: {one_line(error)}"
        yield Finding(state="failed", what=what, words=words)


def _requirements() -> list[str]:
    try:
        return importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def libraries(requirements: list[str]) -> Iterator[Finding]:
    """The libraries that every installation has, each imported, with its version.

    requirements: lines as a package's metadata has them.
    """
    required = [line for line in requirements if "extra ==" not in line]
    if not required:
        yield Finding(
            state="missing",
            what="installation",
            words="the package runs from a folder; pip install . there tells pip what it needs",
        )
    for name in (_name(line) for line in required):
        try:
            importlib.import_module(_MODULES.get(name, name))
            yield Finding(state="ok", what=name, words=importlib.metadata.version(name))
        except Exception as error:  # a library may break in any way while it is imported
            words = f"{type(error).__name__}: {one_line(error)}; get it with: pip install '{name}'"
            yield Finding(state="failed", what=name, words=words)


def _devices() -> Iterator[Finding]:
    import torch

    yield Finding(state="ok", what="cpu", words=f"{torch.get_num_threads()} threads")
    if not torch.accelerator.is_available():
        words = "none that this torch can use; models run on the CPU"
        yield Finding(state="missing", what="accelerator", words=words)
        return
    kind = torch.accelerator.current_accelerator()
    for number in range(torch.accelerator.device_count()):
        words = str(kind)
        if kind is not None and kind.type == "cuda":
            about = torch.cuda.get_device_properties(number)
            words = f"{about.name}, {about.total_memory / 1e9:.1f} GB"
        yield Finding(state="ok", what=f"accelerator {number}", words=words)


def _codecs() -> Iterator[Finding]:
    import av
    from av.codec import codecs_available

    versions = ".".join(str(part) for part in av.library_versions["libavcodec"])
    for what, wanted in (("decoders", _DECODERS), ("encoders", _ENCODERS)):
        there = [words for name, words in wanted.items() if name in codecs_available]
        absent = [words for name, words in wanted.items() if name not in codecs_available]
        yield Finding(state="ok", what=what, words=f"{', '.join(there)} (libavcodec {versions})")
        if absent:
            words = f"{', '.join(absent)}; another build of PyAV may have them"
            yield Finding(state="missing", what=what, words=words)


def onnxruntime(versions: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Which provider of onnxruntime really runs a graph; nothing when onnxruntime is not here.

    versions: of the packages that are here, by name, to look at in place of this Python's own.
    """
    from molmo2_ground.model.onnx_session import PACKAGES, conflict, really_runs

    if versions is None:
        versions = {name: importlib.metadata.version(name) for name in PACKAGES if is_installed(name)}
    if not versions:
        return  # the line of the extra says how to get it
    clash = conflict(list(versions))
    if clash is not None:
        yield Finding(state="failed", what="onnxruntime", words=clash)
        return
    running, listed = really_runs()
    ((package, version),) = versions.items()
    words = f"{version}, really runs on {running}; lists {', '.join(listed)}"
    yield Finding(state="ok", what=package, words=words)
    if "CUDAExecutionProvider" in listed and not running.startswith("CUDA"):
        words = "onnxruntime lists CUDA and cannot use it: no card, or CUDA or cuDNN libraries are missing"
        yield Finding(state="missing", what="CUDA of onnxruntime", words=words)


def _model(model: str | None, *, device: str, dtype: str, vision: str) -> Iterator[Finding]:
    from molmo2_ground.grounder import default_model
    from molmo2_ground.model import load_checkpoint

    loaded = load_checkpoint(model or default_model(), device=device, dtype=dtype, vision=vision)
    weight = loaded.network.lm_head.weight
    words = (
        f"{loaded.model_id}: {loaded.checkpoint.parameters / 1e6:,.1f} million parameters, "
        f"{weight.dtype} on {loaded.device}, up to {loaded.limits.max_frames} frames "
        f"and {loaded.limits.context_tokens:,} tokens"
    )
    yield Finding(state="ok", what="model", words=words)
    if vision != "torch":
        yield Finding(state="ok", what="vision", words=str(loaded.vision.tower))
    apart = parity(loaded)
    allowed = _TOLERANCE.get(str(weight.dtype), 1e-3)
    verdict = f"on a random frame our forward and the library's differ by {apart:.1e} at most"
    if apart <= allowed:
        yield Finding(state="ok", what="parity", words=verdict)
    else:
        words = f"{verdict}, expected {allowed:.0e}; install the versions in constraints.txt"
        yield Finding(state="failed", what="parity", words=words)


def parity(model: Molmo2) -> float:
    """Largest difference between our logits and the library's own forward, on one random video frame."""
    import numpy as np
    import torch

    from molmo2_ground.clip import Clip

    pixels = np.random.default_rng(0).integers(0, 256, (1, 90, 160, 3), dtype=np.uint8)
    inputs = model.build_inputs(Clip.from_arrays(pixels, fps=2.0), "Track the red car.")
    with torch.inference_mode():
        network: Any = model.network
        library: torch.Tensor = network(**_library_arguments(model, inputs)).logits[0]
    return float((model.logits(inputs) - library.float()).abs().max())


def _library_arguments(model: Molmo2, inputs: ModelInputs) -> dict[str, Any]:
    """One video prompt in the words of the library's forward."""
    import torch

    from molmo2_ground.model.vision import normalised

    visual = inputs.visual
    assert visual is not None, "the prompt of this check holds a frame"
    arguments = {
        "input_ids": inputs.input_ids[None],
        "mm_token_type_ids": inputs.visual_L.long()[None],
        "pixel_values_videos": normalised(
            visual.patches_CNP, flags=model.flags, dtype=model.network.lm_head.weight.dtype
        ),
        "video_token_pooling": visual.pooling_TK,
        "video_grids": torch.tensor(visual.grids),
    }
    return {name: tensor.to(model.device) for name, tensor in arguments.items()}


def extras(requirements: list[str], *, rivals: Mapping[str, str] = _RIVALS) -> Iterator[Finding]:
    """The optional parts that a user may want, and whether their libraries are here.

    rivals: by extra, the package that must not be there with it.
    """
    wanted: dict[str, list[str]] = {}
    for line in requirements:
        found = re.search(r"""extra\s*==\s*['"]([^'"]+)""", line)
        if found and found[1] not in ("dev", "test"):
            wanted.setdefault(found[1], []).append(_name(line))
    for extra, names in sorted(wanted.items()):
        absent = [name for name in names if not is_installed(name)]
        rival = rivals.get(extra)
        if absent and rival is not None and is_installed(rival):
            words = f"not beside {rival}, which is here; to change: pip uninstall {rival}, then {_get(extra)}"
            yield Finding(state="missing", what=f"extra {extra}", words=words)
        elif absent:
            words = f"without {', '.join(absent)}; get it with: {_get(extra)}"
            yield Finding(state="missing", what=f"extra {extra}", words=words)
        else:
            yield Finding(state="ok", what=f"extra {extra}", words=", ".join(names))


def _get(extra: str) -> str:
    return f"pip install '{PACKAGE}[{extra}]'"


def _name(requirement: str) -> str:
    """`pillow` of `pillow<14,>=11`."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    return match[0].lower() if match else requirement
