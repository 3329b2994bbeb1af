"""LLaVA-1.5 checkpoints: tiny random ones in both layouts against transformers' own class, and the 7B on the meta device."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoImageProcessor,
    AutoProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from data_tools.records import Message, Part
from mm_align.backends import load_backend
from mm_align.config import UserError
from mm_align.jobs.convert import ConvertConfig, run
from mm_align.models import LvlmForConditionalGeneration, LvlmProcessor, llava_layout, llava_saving
from mm_align.models.inspect import inspect_model

SEVEN_B = {  # config.json of liuhaotian/llava-v1.5-7b, as far as it is read
    "architectures": ["LlavaLlamaForCausalLM"], "model_type": "llava", "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_scaling": None,
    "tie_word_embeddings": False, "image_aspect_ratio": "pad", "mm_hidden_size": 1024, "mm_projector_type": "mlp2x_gelu",
    "mm_resampler_type": None, "mm_use_im_patch_token": False, "mm_use_im_start_end": False, "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2, "mm_vision_tower": "openai/clip-vit-large-patch14-336",
}  # fmt: skip
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
SIZES = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}


def tokenizer(*, image: bool) -> PreTrainedTokenizerFast:
    """One token a byte; begins every text with <s>, as Llama's does. Without `image`, the vocabulary of the authors' files."""
    words = ["<unk>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    more = {"additional_special_tokens": ["<image>"], "pad_token": "<pad>"} if image else {}
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>", **more)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that transformers wrote: CLIP with class token, two biases, Llama."""
    folder = tmp_path_factory.mktemp("theirs")
    words = tokenizer(image=True)
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**TOWER),
        text_config={"model_type": "llama", "vocab_size": len(words), "initializer_range": 0.2, **SIZES},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    words.save_pretrained(folder)
    look = {"image_processor_type": "CLIPImageProcessor", "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25]}
    (folder / "preprocessor_config.json").write_text(json.dumps(look))
    return folder


@pytest.fixture(scope="module")
def original(theirs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights in the authors' layout: 259 words without <image>, the tower in a folder beside."""
    folder = tmp_path_factory.mktemp("authors") / "llava-v1.5-tiny"
    folder.mkdir()
    words = tokenizer(image=False)
    model = LlavaForConditionalGeneration.from_pretrained(theirs)
    weights, tower = {}, CLIPVisionModel(CLIPVisionConfig(**TOWER))
    tower.load_state_dict(model.model.vision_tower.state_dict())
    tower.save_pretrained(folder.parent / "clip-tiny")
    for name, tensor in model.state_dict().items():
        rows = tensor[: len(words)] if name.endswith(("embed_tokens.weight", "lm_head.weight")) else tensor
        name = name.replace("model.language_model.", "model.").replace("multi_modal_projector.linear_1", "mm_projector.0")
        if "vision_tower" not in name:
            weights[name.replace("multi_modal_projector.linear_2", "mm_projector.2")] = rows.contiguous().clone()
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(6)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    words.save_pretrained(folder)
    write_config(
        folder, mm_vision_tower="somewhere/clip-tiny", vocab_size=len(words), max_position_embeddings=2048, rms_norm_eps=1e-6, **SIZES
    )
    return folder


def write_config(folder: Path, **changes: Any) -> None:
    (folder / "config.json").write_text(json.dumps(SEVEN_B | changes))


def changed(source: Path, target: Path, **changes: Any) -> Path:
    shutil.copytree(source.parent, target)
    folder = target / source.name
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | changes))
    return folder


@pytest.fixture(scope="module")
def inputs(theirs: Path) -> dict[str, torch.Tensor]:
    """Two rows with one picture each, right padding."""
    words, draw = tokenizer(image=True), torch.Generator().manual_seed(1)
    ids = torch.randint(3, 200, (2, 12), generator=draw)
    ids[:, 1:5] = words.convert_tokens_to_ids("<image>")
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": torch.randn(2, 3, 28, 28, generator=draw)}


def logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Of real tokens and the words that both vocabularies have."""
    with torch.inference_mode():
        return model.eval()(**inputs).logits[inputs["attention_mask"].bool()][:, :259]


# -- equality with transformers ----------------------------------------------------------------------------------------


def test_logits_equal_those_of_transformers(theirs, inputs):
    ours, _, layout = llava_layout.load_llava(theirs)
    assert isinstance(ours, LvlmForConditionalGeneration)
    assert layout.missing == layout.unknown == layout.absent == []
    torch.testing.assert_close(logits(ours, inputs), logits(LlavaForConditionalGeneration.from_pretrained(theirs), inputs), rtol=0, atol=0)


@pytest.mark.parametrize("version", ["4.40", "4.52"])
def test_names_of_older_versions(theirs, inputs, tmp_path, version):
    """Hub files have version 4's names: `language_model.model.` at first, a wrapper `vision_model.` around the tower throughout."""
    shutil.copytree(theirs, tmp_path / "old")
    weights = LlavaForConditionalGeneration.from_pretrained(theirs).state_dict()
    named = {name.replace("vision_tower.", "vision_tower.vision_model."): t.clone() for name, t in weights.items()}
    if version == "4.40":
        renamed = {name.removeprefix("model."): t for name, t in named.items()}
        named = {
            n.replace("language_model.", "language_model.model.").replace("lm_head", "language_model.lm_head"): t
            for n, t in renamed.items()
        }
    named["model.vision_tower.vision_model.embeddings.position_ids"] = torch.arange(5)
    save_file(named, tmp_path / "old" / "model.safetensors", metadata={"format": "pt"})
    ours, _, layout = llava_layout.load_llava(tmp_path / "old")
    assert layout.missing == layout.unknown == []
    assert layout.ignored == ["model.vision_tower.vision_model.embeddings.position_ids"]
    torch.testing.assert_close(logits(ours, inputs), logits(llava_layout.load_llava(theirs).model, inputs), rtol=0, atol=0)


def test_the_authors_layout_gives_the_same(theirs, original, inputs):
    """The tower comes from the folder beside; 259 words and <image> as the 260th, rows grown to 320 by the mean."""
    ours, processor, layout = llava_layout.load_llava(original)
    assert layout.missing == layout.unknown == []
    assert layout.ignored == ["model.layers.0.self_attn.rotary_emb.inv_freq"]
    assert processor.image_token_id == ours.config.image_token_id == 259
    assert ours.get_input_embeddings().weight.shape == ours.lm_head.weight.shape == (320, 24)
    torch.testing.assert_close(ours.lm_head.weight[300], ours.lm_head.weight[:259].mean(0))
    theirs_ids = inputs["input_ids"].clone()
    theirs_ids[:, 1:5] = 259
    expected = logits(LlavaForConditionalGeneration.from_pretrained(theirs), inputs)
    torch.testing.assert_close(logits(ours, inputs | {"input_ids": theirs_ids}), expected, rtol=0, atol=0)


def test_a_tower_inside_the_file(original, inputs, tmp_path):
    """As in checkpoints whose tower was trained; its config still comes from the tower's folder."""
    folder = changed(original, tmp_path / "x")
    weights = load_file(folder / "model.safetensors")
    tower = CLIPVisionModel.from_pretrained(folder.parent / "clip-tiny").state_dict()
    weights |= {f"model.vision_tower.vision_tower.vision_model.{name}": 2 * tensor for name, tensor in tower.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    ours = llava_layout.load_llava(folder).model
    assert torch.equal(ours.model.vision_tower.pre_layrnorm.weight, 2 * tower["pre_layrnorm.weight"])


@pytest.mark.parametrize("layout", ["theirs", "original"])
def test_convert_and_back(layout, theirs, original, inputs, tmp_path, capsys, reported):
    source = {"theirs": theirs, "original": original}[layout]
    told = reported("convert", source, "--out", tmp_path / "ours")
    assert told == {"out": str(tmp_path / "ours"), **json.loads((tmp_path / "ours" / "converted.json").read_text())}
    assert reported("convert", source, "--out", tmp_path / "ours") == told
    run(ConvertConfig(source=str(source), out=tmp_path / "ours", overwrite=True))
    assert "weights mapped" in capsys.readouterr().out
    ours = LvlmForConditionalGeneration.from_pretrained(tmp_path / "ours")
    run(ConvertConfig(source=str(tmp_path / "ours"), out=tmp_path / "back"))
    assert "written as transformers' LLaVA" in capsys.readouterr().out
    back = LlavaForConditionalGeneration.from_pretrained(tmp_path / "back")
    ids = inputs["input_ids"].where(inputs["input_ids"] < 259, ours.config.image_token_id)
    torch.testing.assert_close(logits(back, inputs | {"input_ids": ids}), logits(ours, inputs | {"input_ids": ids}), rtol=0, atol=0)
    again = llava_layout.load_llava(tmp_path / "back").model
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), ours.state_dict().values(), strict=True))


# -- words and pictures ------------------------------------------------------------------------------------------------

TALK = (
    Message("user", (Part("image"), Part("text", "What is it?"))),
    Message("assistant", (Part("text", "A dog."),), trains=True),
    Message("user", (Part("text", "Sure?"),)),
)


def test_prompts_are_vicunas_and_equal_in_transformers(theirs, tmp_path):
    """Begin token, system sentence, USER and ASSISTANT; four placeholders and a newline; the answer ends with </s>."""
    ours = llava_layout.load_llava(theirs)
    text = ours.processor.tokenizer.decode(ours.processor.encode(TALK)).replace(" ", "")
    told = "<s>Achatbetweenacurioususerandanartificialintelligenceassistant."
    assert text.startswith(told)
    assert text.endswith("USER:" + "<image>" * 4 + "\nWhatisit?ASSISTANT:Adog.</s>USER:Sure?ASSISTANT:")
    ours.model.save_pretrained(tmp_path / "ours")
    ours.processor.save_pretrained(tmp_path / "ours")
    run(ConvertConfig(source=str(tmp_path / "ours"), out=tmp_path / "back"))
    back = AutoProcessor.from_pretrained(tmp_path / "back", backend="pil")
    turns = [
        {"role": m.role, "content": [{"type": p.kind, "text": p.text} if p.kind == "text" else {"type": "image"} for p in m.parts]}
        for m in TALK
    ]
    rendered = back.apply_chat_template(turns, add_generation_prompt=True)
    picture = PIL.Image.effect_noise((40, 40), 90).convert("RGB")
    made = back(text=rendered, images=[picture], add_special_tokens=False, return_tensors="pt")
    assert made["input_ids"][0].tolist() == ours.processor.encode(TALK)
    torch.testing.assert_close(made["pixel_values"], torch.from_numpy(ours.processor.image_processor.pixels([picture])), rtol=0, atol=1e-5)


def test_pictures_follow_the_folders_settings(theirs, original):
    """transformers' files cut to the middle unless they say otherwise; the authors' 1.5 pads, with CLIP's mean colour."""
    found, authors = (llava_layout.load_llava(folder).processor.image_processor for folder in (theirs, original))
    assert (found.aspect, found.image_mean) == ("crop", [0.4, 0.5, 0.6])
    assert (authors.aspect, authors.image_mean) == ("pad", list(CLIPImageProcessorPil().image_mean))


@pytest.mark.parametrize("aspect", ["squash", "pad", "crop"])
@pytest.mark.parametrize("size", [(40, 30), (28, 56)])
def test_pictures_are_read_alike_in_transformers(make_model, make_processor, aspect, size, tmp_path):
    """Settings written for transformers and read back; its crop resizes first, so a pixel at the border may differ by its rounding."""
    processor = make_processor()
    processor.image_processor.aspect = aspect
    llava_saving._save_processor(processor, make_model().config, tmp_path)
    picture = PIL.Image.linear_gradient("L").resize(size).convert("RGB")
    ours = torch.from_numpy(processor.image_processor.pixels([picture]))
    theirs = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")([picture], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(theirs, ours, rtol=0, atol=0.05 if aspect == "crop" else 1e-5)
    again = llava_layout._pictures(tmp_path, {}, make_model().config)
    assert (again.aspect, again.size) == (aspect, 16)


def test_a_folders_own_template_gets_the_begin_token(theirs, tmp_path):
    """llava-hf's template has none, since its processor's tokenizer adds it."""
    shutil.copytree(theirs, tmp_path / "x")
    parts = "{% for p in m['content'] %}{{ p['text'] if p['type'] == 'text' else '<image>' }}{% endfor %}"
    template = "{% for m in messages %}{{ m['role'] }}:" + parts + "{% endfor %}"
    (tmp_path / "x" / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    processor = llava_layout.load_llava(tmp_path / "x").processor
    assert processor.encode(TALK[:1])[0] == 1
    assert processor.encode(TALK[:1]).count(1) == 1


def test_backend_and_inspection(original):
    backend = load_backend(str(original), device="cpu")
    assert isinstance(backend.model, LvlmForConditionalGeneration)
    assert isinstance(backend.prompts.processor, LvlmProcessor)
    found = inspect_model(str(original))
    assert found.ok
    assert "LLaVA's own layout, clip_vision_model + MLP + llama" in "\n".join(found.to_lines())


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_seven_b_on_the_meta_device():
    """7,063,427,072 parameters as llava-hf counts them, 686 weights; the authors' 32,000 words are 64 rows a table fewer."""
    with torch.device("meta"):
        theirs = LlavaForConditionalGeneration(LlavaConfig(text_config={"model_type": "llama", "vocab_size": 32064, "rms_norm_eps": 1e-5}))
        ours = LvlmForConditionalGeneration(llava_layout.to_lvlm_config(theirs.config.to_dict()))
        authors = LvlmForConditionalGeneration(llava_layout.to_lvlm_config(SEVEN_B))
    assert ours.num_parameters() == theirs.num_parameters() == 7_063_427_072
    assert authors.num_parameters() == 7_063_427_072 - 2 * 64 * 4096
    assert ours.config.num_image_tokens == authors.config.num_image_tokens == 576
    layout = llava_layout.lay_out(theirs.state_dict(), ours.state_dict(), original=False)
    assert len(layout.mapped) == len(ours.state_dict()) == 686
    assert layout.missing == layout.unknown == []
    names = ["model.embed_tokens.weight", "model.layers.31.mlp.down_proj.weight", "model.norm.weight", "lm_head.weight"]
    names += ["model.mm_projector.0.weight", "model.mm_projector.0.bias", "model.mm_projector.2.weight", "model.mm_projector.2.bias"]
    for name in names:
        assert llava_layout.our_name(name, original=True) in authors.state_dict()
    assert authors.model.adapter.linear_1.weight.shape == (4096, 1024)


# -- what cannot be read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"architectures": ["LlavaMistralForCausalLM"]}, "has the architecture LlavaMistralForCausalLM; expected LLaVA-1.5"),
        ({"image_aspect_ratio": "anyres"}, "pictures in tiles"),
        ({"mm_patch_merge_type": "spatial_unpad"}, "pictures in tiles"),
        ({"mm_projector_type": "qformer"}, "has mm_projector_type 'qformer'; known: linear and mlpNx_gelu"),
        ({"mm_vision_tower": "somewhere/else"}, "the vision tower 'else' is not described anywhere"),
        ({"model_type": "qwen2_vl"}, "holds a qwen2_vl model; expected a released AITQE or Opt-Visor"),
        ({"mm_projector_type": "linear"}, "not whole: .* MISSING from the file: model.adapter.linear_1"),
    ],
)
def test_another_architecture_is_named(original, tmp_path, changes, told):
    folder = changed(original, tmp_path / "x", **changes)
    if changes.get("mm_projector_type") == "linear":
        weights = {n: t for n, t in load_file(folder / "model.safetensors").items() if "mm_projector.0" not in n}
        save_file(weights, folder / "model.safetensors")
    with pytest.raises(UserError, match=told):
        run(ConvertConfig(source=str(folder), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_config_classes_that_ours_cannot_hold(theirs):
    written = json.loads((theirs / "config.json").read_text())
    with pytest.raises(UserError, match=r"joins the tower's layers \[-2, -3\]"):
        llava_layout.to_lvlm_config(written | {"vision_feature_layer": [-2, -3]})
    with pytest.raises(UserError, match="model_type 'llava_next'; expected LLaVA-1.5's"):
        llava_layout.to_lvlm_config({"model_type": "llava_next"})
    siglip = {"model_type": "siglip_vision_model", **TOWER}
    with pytest.raises(UserError, match="drops the first token of a siglip_vision_model tower, which is a patch"):
        llava_layout.to_lvlm_config(written | {"vision_config": siglip})


def test_an_id_that_is_not_the_tokenizers(theirs, tmp_path):
    shutil.copytree(theirs, tmp_path / "x")
    written = json.loads((tmp_path / "x" / "config.json").read_text()) | {"image_token_index": 7, "image_token_id": 7}
    (tmp_path / "x" / "config.json").write_text(json.dumps(written))
    with pytest.raises(UserError, match="gives <image> the id 7, its tokenizer"):
        llava_layout.load_llava(tmp_path / "x")


# -- writing our own models --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", [{"type": "mlp"}, {"type": "mlp", "bias": True}, {"type": "mlp", "bias": False}])
def test_siglip_and_qwen2_are_written_too(make_model, make_processor, adapter, tmp_path):
    """AITQE's second Linear has no bias: zeros in transformers' class, the same function."""
    model, processor = make_model(adapter=adapter), make_processor()
    told = llava_saving.save_llava(model, processor, tmp_path)
    assert ("as zeros" in told[0]) == (adapter == {"type": "mlp"})
    back = LlavaForConditionalGeneration.from_pretrained(tmp_path).eval()
    ids = torch.randint(0, 250, (1, 9), generator=torch.Generator().manual_seed(0))
    ids[:, :4] = model.config.image_token_id
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": torch.randn(1, 3, 16, 16)}
    with torch.inference_mode():
        torch.testing.assert_close(back(**batch).logits, model(**batch).logits, rtol=0, atol=0)
    assert isinstance(llava_layout.load_llava(tmp_path).model, LvlmForConditionalGeneration)


def test_what_transformers_cannot_hold_is_named(make_model, make_processor, tmp_path):
    model = make_model(adapter={"type": "mlp", "hidden_size": 24})
    with pytest.raises(UserError, match="transformers' LLaVA cannot hold the adapter .*24"):
        llava_saving.save_llava(model, make_processor(), tmp_path)
