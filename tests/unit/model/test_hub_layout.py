from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoTokenizer, Molmo2ForConditionalGeneration

from molmo2_ground.model import Molmo2
from molmo2_ground.model.hub_layout import save_hub_layout
from molmo2_ground.model.random_checkpoint import byte_tokenizer, write_random_checkpoint


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen", "olmo"])
def test_the_library_reads_back_every_weight(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    loaded: Any = Molmo2ForConditionalGeneration.from_pretrained(folders[kind], output_loading_info=True)
    network, report = loaded
    assert not any(report.values())
    flags_from = json.loads((folders[kind] / "processor_config.json").read_text())
    assert flags_from["use_frame_special_tokens"] is False
    again = write_again(network, tmp_path)
    loaded = Molmo2ForConditionalGeneration.from_pretrained(again, output_loading_info=True)
    copy, report = loaded
    assert not any(report.values())
    state = copy.state_dict()
    for name, weight in network.state_dict().items():
        assert torch.equal(state[name], weight), name
    assert copy.config.text_config.rope_parameters == network.config.text_config.rope_parameters
    assert copy.config.text_config.rope_scaling_layers == network.config.text_config.rope_scaling_layers
    assert copy.config.text_config.norm_after is (kind == "olmo")


def write_again(network: Any, folder: Path, **arguments: Any) -> Path:
    from molmo2_ground.model.random_checkpoint import random_flags

    tokenizer = byte_tokenizer()
    flags = random_flags("qwen", tokenizer=tokenizer)
    return save_hub_layout(network, folder, tokenizer=tokenizer, flags=flags, **arguments)


def test_names_and_cuts_are_the_released_ones(folders: dict[str, Path]) -> None:
    with safe_open(folders["qwen"] / "model.safetensors", "pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - no mapping
    assert shapes["model.transformer.wte.embedding"] == [300, 48]
    assert shapes["model.transformer.wte.new_embedding"] == [16, 48]
    assert shapes["lm_head.weight"] == [300, 48]
    assert shapes["model.transformer.blocks.2.self_attn.att_proj.weight"] == [(4 + 2 + 2) * 16, 48]
    assert shapes["model.vision_backbone.image_vit.positional_embedding"] == [36, 32]
    assert not [name for name in shapes if "language_model" in name or "vision_tower" in name]


def test_config_has_the_released_keys(folders: dict[str, Path]) -> None:
    config = json.loads((folders["olmo"] / "config.json").read_text())
    assert {"vit_config", "adapter_config", "text_config", "image_col_id", "image_low_res_id"} <= set(config)
    assert config["image_patch_id"] == 302
    assert config["adapter_config"]["vit_layers"] == [4, 2]
    assert config["text_config"]["rope_scaling_layers"] == [1]
    assert config["text_config"]["rope_scaling"]["rope_type"] == "yarn"
    assert config["text_config"]["qk_norm_type"] == "olmo"
    assert "rope_theta" not in config["text_config"]["rope_scaling"]


def test_parts_hold_each_weight_once(model: Molmo2, tmp_path: Path) -> None:
    folder = write_again(model.network, tmp_path, max_shard_bytes=100_000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    parts = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(parts) > 3
    assert sorted(set(index["weight_map"].values())) == parts
    found = {name: part for part in parts for name in load_file(folder / part)}
    assert found == index["weight_map"]
    assert (
        sum(weight.nbytes for part in parts for weight in load_file(folder / part).values())
        == (index["metadata"]["total_size"])
    )


def test_writing_again_leaves_no_stale_parts(model: Molmo2, tmp_path: Path) -> None:
    write_again(model.network, tmp_path, max_shard_bytes=100_000)
    write_again(model.network, tmp_path)
    assert [path.name for path in tmp_path.glob("*.safetensors*")] == ["model.safetensors"]
    # Whoever may read one of its files may read all.
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


def test_half_precision_is_stored_and_tied_tables_are_written_twice(model: Molmo2, tmp_path: Path) -> None:
    network: Any = Molmo2ForConditionalGeneration(model.network.config)
    table = network.model.language_model.embed_tokens.weight
    network.lm_head.weight = torch.nn.Parameter(table[:300])
    weights = load_file(write_again(network, tmp_path, dtype=torch.float16) / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}
    assert torch.equal(weights["lm_head.weight"], weights["model.transformer.wte.embedding"])
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float16"


def test_the_librarys_tokenizer_and_template_read_the_folder(folders: dict[str, Path]) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(folders["qwen"])
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": "And?"},
    ]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == (
        "Image 1<|image|>Image 2<|image|><|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nYes<|im_end|>\n"
        "<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert tokenizer.eos_token == tokenizer.bos_token == "<|im_end|>"


def test_an_unknown_padding_word_is_refused(model: Molmo2, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pad_word '<nothing>'"):
        write_again(model.network, tmp_path, pad_word="<nothing>")


@pytest.mark.slow
def test_random_checkpoints_repeat_and_differ_by_seed(tmp_path: Path, folders: dict[str, Path]) -> None:
    same = load_file(write_random_checkpoint(tmp_path / "a") / "model.safetensors")
    other = load_file(write_random_checkpoint(tmp_path / "b", seed=1) / "model.safetensors")
    for name, weight in load_file(folders["qwen"] / "model.safetensors").items():
        assert torch.equal(same[name], weight), name
    assert not torch.equal(same["lm_head.weight"], other["lm_head.weight"])
