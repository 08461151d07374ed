"""Peak memory of encoding a video: our vision encoder against the library's `get_video_features`.

`python benchmarks/vision.py [--frames 384] [--smaller 8]`. Linux; minutes. A network of random weights with
the 8B's vision tower and connector: 25 layers, heads of 72, 729 patches and 81 tokens a frame,
and every width divided by `--smaller` (8: 144 in the tower, 512 out of the connector). Both encode the same
frames in float32 on one thread: the library the whole video at once, ours eight frames at once as on any CPU.
Peaks are those of fresh processes above what they hold with the network and their inputs loaded. At a smaller
width what does not depend on it weighs more, which is to our disadvantage.

Exits with 1 when features differ.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from molmo2_ground.model.flags import InputFlags
from molmo2_ground.model.inputs import VisualInputs, video_inputs
from molmo2_ground.model.random_checkpoint import byte_tokenizer, random_config, random_flags
from molmo2_ground.model.text_codec import TextCodec
from molmo2_ground.model.vision import TorchTower, VisionEncoder, normalised

GOAL = 6.0
SAME_FEATURE = 1e-4
CROPS_AT_ONCE = 8


def build_network(flags: InputFlags, *, smaller: int) -> Any:
    """The 8B's vision tower and connector with every width divided; next to no language model."""
    from transformers import Molmo2Config, Molmo2ForConditionalGeneration

    config = random_config("qwen-4b", flags=flags)
    width, hidden = 1152 // smaller, 4096 // smaller
    heads = {"hidden_size": width, "num_attention_heads": width // 72, "num_key_value_heads": width // 72}
    heads["head_dim"] = 72
    config["vit_config"] |= {**heads, "intermediate_size": 4304 // smaller}
    config["adapter_config"] |= {**heads, "intermediate_size": 12288 // smaller, "text_hidden_size": hidden}
    config["text_config"] |= {"hidden_size": hidden, "num_hidden_layers": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Molmo2ForConditionalGeneration(
            Molmo2Config(**config, image_patch_id=flags.special.image_patch)
        )
        with torch.no_grad():
            for weight in network.model.parameters():
                weight.normal_(std=weight.shape[-1] ** -0.5)
    return network.eval()


def make_inputs(flags: InputFlags, codec: TextCodec, *, frames: int) -> VisualInputs:
    """A video of noise: no two frames are alike, so that none is spared."""
    rng, side = np.random.default_rng(3), flags.image_size_px
    pictures = [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(frames)]
    return video_inputs(pictures, [number / 2 for number in range(frames)], codec=codec, flags=flags)


def status_mib(name: str) -> float:
    """A figure of this process's memory, MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) / 1024


def own_peak(options: argparse.Namespace) -> None:
    """Encode once; print this process's peak for it, MiB, and leave the features in a file."""
    tokenizer = byte_tokenizer()
    flags = random_flags("qwen-4b", tokenizer=tokenizer)
    codec = TextCodec(tokenizer, bos_word="<|im_end|>", eos_word="<|im_end|>")
    network = build_network(flags, smaller=options.smaller)
    visual = make_inputs(flags, codec, frames=options.frames[0])
    encoder = VisionEncoder(TorchTower(network, flags=flags, crops_at_once=CROPS_AT_ONCE))
    pixels = normalised(visual.patches_CNP, flags=flags, dtype=torch.float32)
    if options.peak == "ours":
        del pixels
    ctypes.CDLL(None).malloc_trim(0)  # what was freed on the way here is not to be used again unseen
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak so far is forgotten
    before = status_mib("VmRSS")
    with torch.inference_mode():
        if options.peak == "ours":
            features = encoder.encode(visual)
        else:
            grids = torch.tensor(visual.grids)
            found = network.model.get_video_features(pixels, visual.pooling_TK, grids)
            (features,) = found.pooler_output
    print(status_mib("VmHWM") - before)
    np.save(options.out, features.numpy())


def run(options: argparse.Namespace, frames: int, folder: Path) -> tuple[float, float, float]:
    """Our peak and the library's for one number of frames, MiB, and how far the features are apart."""
    peaks, features = [], []
    for whose in ("ours", "library"):
        out = folder / f"{whose}.npy"
        command = [sys.executable, __file__, "--peak", whose, "--out", str(out)]
        command += ["--frames", str(frames), "--smaller", str(options.smaller)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        peaks.append(float(done.stdout.split()[-1]))
        features.append(np.load(out))
    return peaks[0], peaks[1], float(np.abs(features[0] - features[1]).max())


def main() -> int:
    """Encode, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, nargs="+", default=[384], help="of the video (384)")
    parser.add_argument("--smaller", type=int, default=8, choices=(1, 2, 4, 8), help="divides widths (8)")
    parser.add_argument("--peak", choices=("ours", "library"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        own_peak(options)
        return 0
    print(f"the 8B's vision at 1/{options.smaller} of its widths, float32, {time.strftime('%Y-%m-%d')}")
    print(f"{'frames':>6} {'ours MiB':>9} {'library MiB':>12} {'ratio':>6}  features apart")
    differ = False
    with tempfile.TemporaryDirectory() as folder:
        for frames in options.frames:
            mine, library, apart = run(options, frames, Path(folder))
            differ |= apart > SAME_FEATURE
            print(f"{frames:6} {mine:9.0f} {library:12.0f} {library / mine:6.1f}  {apart:.1e}", flush=True)
    print(f"goal at {frames} frames: {GOAL:g} times ours; {'met' if library / mine >= GOAL else 'MISSED'}")
    return 1 if differ else 0


if __name__ == "__main__":
    raise SystemExit(main())
