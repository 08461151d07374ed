"""What a minute of video costs at the released models' real sizes, with random weights, on a GPU.

`python benchmarks/gpu.py [--shape 8B] [--seconds 60] [--words 300] [--device cuda]`. The weights are made on
the device, so nothing is downloaded; answers are nonsense and forced to their length, so guesses ahead never
hit and each word is a run of its own: with a trained model writing takes a third of these runs and fewer
(`benchmarks/decode.py`). Printed: seconds from prepared frames to the answer and their parts, the share of
the card's measured bfloat16 peak that reading the prompt reaches, words a second and peak memory; ours with
layers recorded as CUDA graphs, compiled before that, and step by step, beside `generate` with the library's
own growing cache and with its compiled static one. `--shape small --device cpu` tries the script without a
card.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from molmo2_ground.clip import Clip
from molmo2_ground.model.checkpoint import Checkpoint
from molmo2_ground.model.decoding import Sampling
from molmo2_ground.model.flags import InputFlags
from molmo2_ground.model.layer_graphs import CudaRecorder, LayerGraphs
from molmo2_ground.model.molmo2 import Molmo2
from molmo2_ground.model.prefix import Prefix, answer_together
from molmo2_ground.model.random_checkpoint import byte_tokenizer, random_config, random_flags
from molmo2_ground.model.text_codec import TextCodec
from molmo2_ground.model.vision import TorchTower, VisionEncoder, crops_at_once, normalised

# hidden, layers, heads, heads of keys, MLP, base vocabulary: facts of the released Qwen-based checkpoints.
SHAPES = {
    "4B": (2560, 36, 32, 8, 9728, 151_936),
    "8B": (4096, 36, 32, 8, 12288, 151_936),
    "small": (80, 3, 8, 2, 304, 300),
}
TOWER = {"hidden_size": 1152, "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 72}


def config_of(shape: str, flags: InputFlags) -> dict[str, Any]:
    """The sizes of a released model under its config.json keys."""
    hidden, layers, heads, kv_heads, inner, vocabulary = SHAPES[shape]
    config = random_config("qwen-4b", flags=flags, base_vocab=vocabulary)
    config["text_config"] |= {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": 16 if shape == "small" else 128,
        "intermediate_size": inner,
        "additional_vocab_size": 16 if shape == "small" else 128,
    }
    if shape != "small":
        config["vit_config"] |= {**TOWER, "intermediate_size": 4304}
        config["adapter_config"] |= {**TOWER, "intermediate_size": inner}
    config["adapter_config"]["text_hidden_size"] = hidden
    return config


def random_model(shape: str, device: torch.device) -> Molmo2:
    """A model of this shape, made on the device."""
    from transformers import Molmo2Config, Molmo2ForConditionalGeneration

    tokenizer = byte_tokenizer(base_vocab=SHAPES[shape][-1])
    flags = random_flags("qwen-4b", tokenizer=tokenizer)
    config = Molmo2Config(**config_of(shape, flags), image_patch_id=flags.special.image_patch)
    torch.manual_seed(0)
    with torch.device(device):
        network: Any = Molmo2ForConditionalGeneration._from_config(
            config, attn_implementation="sdpa", dtype=torch.float32 if shape == "small" else torch.bfloat16
        )
    codec = TextCodec(tokenizer, bos_word="<|im_end|>", eos_word="<|im_end|>")
    codec.stop_ids = frozenset()  # every answer has its full length
    checkpoint = Checkpoint(
        folder=Path(),
        model_id=f"random {shape}",
        revision=None,
        config=config,
        flags=flags,
        codec=codec,
        entries={},
    )
    model = Molmo2(checkpoint, network.eval().requires_grad_(False))
    # Without what it keeps of earlier pictures: each round looks anew, as `generate` does.
    tower = TorchTower(network, flags=flags, crops_at_once=crops_at_once(device))
    model.vision = VisionEncoder(tower)
    return model


def seconds(device: torch.device, work: Callable[[], object], *, rounds: int = 3) -> float:
    """The best of some rounds, with the device's work done."""
    spent = []
    for _ in range(rounds):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        spent.append(time.perf_counter() - began)
    return min(spent)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_flops(device: torch.device) -> float:
    """Floating-point operations a second of one large bfloat16 product on this device."""
    side = 8192 if device.type == "cuda" else 512
    a = torch.randn(
        side, side, device=device, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32
    )
    return 2 * side**3 / seconds(device, lambda: a @ a, rounds=10)


def peak_gib(device: torch.device, work: Callable[[], object]) -> float | None:
    """Most memory of the device while something runs; None on a CPU."""
    if device.type != "cuda":
        work()
        return None
    torch.cuda.reset_peak_memory_stats(device)
    work()
    return torch.cuda.max_memory_allocated(device) / 2**30


def ours(model: Molmo2, clip: Clip, words: int) -> tuple[Prefix, float]:
    """A prefix that has been read, and the seconds of an answer's words."""
    prefix = Prefix(model, model.build_visual(clip))
    turn = prefix.turn("Track the red car.", max_new_tokens=words)
    answer = answer_together([turn], sampling=Sampling())[0]
    assert len(answer.token_ids) == words
    return prefix, answer.timings_ms["decode_text"] / 1000


@torch.inference_mode()
def theirs(model: Molmo2, clip: Clip, words: int, **options: Any) -> None:
    """The library's `generate`, from the same prepared frames."""
    inputs = model.build_inputs(clip, "Track the red car.")
    network: Any = model.network
    visual, device = inputs.visual, model.device
    assert visual is not None
    patches = visual.patches_CNP.to(device)
    written = network.generate(
        input_ids=inputs.input_ids[None].to(device),
        attention_mask=torch.ones(1, len(inputs), dtype=torch.int64, device=device),
        mm_token_type_ids=inputs.visual_L.long()[None].to(device),
        pixel_values_videos=normalised(patches, flags=model.flags, dtype=network.lm_head.weight.dtype),
        video_token_pooling=visual.pooling_TK.to(device),
        video_grids=torch.tensor(visual.grids, device=device),
        max_new_tokens=words,
        min_new_tokens=words,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        **options,
    )
    assert written.shape[1] == len(inputs) + words


def told(gib: float | None) -> str:
    """Peak memory in words."""
    return "" if gib is None else f", at most {gib:.1f} GiB"


def print_ours(model: Molmo2, clip: Clip, words: int, way: str) -> None:
    """Measure our way."""
    device = model.device
    found: list[tuple[Prefix, float]] = []

    def once() -> None:
        found[:] = [ours(model, clip, words)]

    gib = peak_gib(device, once)  # also warms up
    whole_s = seconds(device, once)
    prefix, decode_s = found[0]
    vision_s, prefill_s = (prefix.timings_ms[part] / 1000 for part in ("vision", "prefill"))
    layers: Any = model.network.model.language_model.layers
    flops = 2 * len(prefix) * sum(weight.numel() for weight in layers.parameters())
    share = flops / prefill_s / peak_flops(device)
    print(f"{way}: {whole_s:.2f} s in all, {words / decode_s:.0f} words a second{told(gib)}")
    print(
        f"      looking {vision_s:.2f} s; {len(prefix):,} tokens {prefill_s:.2f} s, {share:.0%} of the peak"
    )


def print_theirs(model: Molmo2, clip: Clip, words: int, way: str, settings: dict[str, Any]) -> None:
    """Measure one of the library's ways."""
    device = model.device
    gib = peak_gib(device, lambda: theirs(model, clip, words, **settings))
    whole_s = seconds(device, lambda: theirs(model, clip, words, **settings), rounds=2)
    first_s = seconds(device, lambda: theirs(model, clip, 1, **settings), rounds=2)
    rate = (words - 1) / max(1e-9, whole_s - first_s)
    print(f"{way}: {whole_s:.2f} s in all, {rate:.0f} words a second{told(gib)}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="8B")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--words", type=int, default=300)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    device = torch.device(options.device)
    model = random_model(options.shape, device)
    frames = int(2 * options.seconds) + 1
    noise = np.random.default_rng(0).integers(0, 256, (frames, 378, 378, 3), dtype=np.uint8)
    clip = Clip.from_arrays(noise, fps=2.0)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{options.shape} shape, random weights, {frames} frames, {options.words} words; {name}")
    print(time.strftime("%Y-%m-%d"), f"torch {torch.__version__}")
    print_ours(model, clip, options.words, "ours")
    if device.type == "cuda":
        text: Any = model.network.model.language_model
        compiler = functools.partial(torch.compile, dynamic=True)
        model.layers = LayerGraphs(text, CudaRecorder(device), compiler=compiler)
        print_ours(model, clip, options.words, "ours, compiled")
    model.layers = None
    print_ours(model, clip, options.words, "ours, step by step")
    print_theirs(model, clip, options.words, "generate", {})
    print_theirs(model, clip, options.words, "generate, static", {"cache_implementation": "static"})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
