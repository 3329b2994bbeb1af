"""The LVLM as a transformers model: files, padding, generation, PEFT, pipelines, other towers and decoders."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, pipeline

from mm_align.models import LvlmConfig, LvlmForConditionalGeneration, LvlmProcessor

TEXTS = ["<image>short", "<image>a considerably longer question than the first one", "no picture here"]
MARGIN = 1e-4


@pytest.fixture(scope="module")
def inputs(processor: Any, picture: Callable[[int], Any]) -> Any:
    return processor(text=TEXTS, images=[picture(0), picture(1)], padding=True, return_tensors="pt")


@pytest.fixture(scope="module")
def singles(processor: Any, picture: Callable[[int], Any]) -> list[Any]:
    pictures: list[Any] = [picture(0), picture(1), None]
    return [processor(text=t, images=p, return_tensors="pt") for t, p in zip(TEXTS, pictures, strict=True)]


@contextmanager
def tower_rows(model: Any) -> Iterator[list[int]]:
    """How many pictures each call of the vision tower saw."""
    rows: list[int] = []
    tower = model.model.vision_tower.embeddings
    handle = tower.register_forward_hook(lambda _module, _args, out: rows.append(out.shape[0]))
    yield rows
    handle.remove()


class TestFiles:
    def test_auto_classes_give_ours_back_with_equal_logits(self, tiny_model: Any, processor: Any, inputs: Any, tmp_path: Any) -> None:
        tiny_model.save_pretrained(tmp_path)
        processor.save_pretrained(tmp_path)
        model = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
        assert isinstance(model, LvlmForConditionalGeneration)
        assert isinstance(AutoConfig.from_pretrained(tmp_path), LvlmConfig)
        assert isinstance(AutoProcessor.from_pretrained(tmp_path), LvlmProcessor)
        assert torch.equal(model(**inputs).logits, tiny_model(**inputs).logits)

    def test_a_tied_head_is_one_tensor_and_not_in_the_file(self, tiny_model: Any, tmp_path: Any) -> None:
        from safetensors import safe_open

        tiny_model.save_pretrained(tmp_path)
        with safe_open(tmp_path / "model.safetensors", "pt") as file:
            names = set(file.keys())
        assert "lm_head.weight" not in names
        assert {"model.vision_tower.embeddings.patch_embedding.weight", "model.adapter.linear_1.bias"} <= names
        loaded = LvlmForConditionalGeneration.from_pretrained(tmp_path)
        assert loaded.lm_head.weight is loaded.get_input_embeddings().weight

    @pytest.mark.parametrize("tied", [True, False])
    def test_the_top_flag_alone_decides(self, tied: bool, make_model: Callable[..., Any], tmp_path: Any) -> None:
        model = make_model(tie_word_embeddings=tied)  # the text config says True
        model.save_pretrained(tmp_path)
        loaded = LvlmForConditionalGeneration.from_pretrained(tmp_path)
        assert (loaded.lm_head.weight is loaded.get_input_embeddings().weight) is tied
        assert loaded.config.text_config.tie_word_embeddings is tied

    def test_device_map_and_dtype(self, tiny_model: Any, inputs: Any, tmp_path: Any) -> None:
        tiny_model.save_pretrained(tmp_path)
        loaded = LvlmForConditionalGeneration.from_pretrained(tmp_path, device_map="cpu", dtype=torch.bfloat16)
        assert loaded.model.adapter.linear_1.weight.dtype == torch.bfloat16
        assert loaded(**inputs).logits.dtype == torch.bfloat16  # fp32 pixels are taken too
        assert {"SiglipEncoderLayer", "Qwen2DecoderLayer"} <= set(loaded._no_split_modules)

    def test_number_of_placeholders_from_the_config(self, tiny_model: Any) -> None:
        assert tiny_model.config.num_image_tokens == 4
        assert tiny_model.config.image_size == 16


class TestPlacement:
    def test_pictures_stand_at_their_placeholders(self, tiny_model: Any, inputs: Any) -> None:
        """Placing by hand, row by row, gives the same embeddings as one scatter."""
        features = tiny_model.visual_tokens(inputs["pixel_values"]).features
        placed = tiny_model.input_embeddings(inputs["input_ids"], features.flatten(0, 1))
        by_hand = tiny_model.get_input_embeddings()(inputs["input_ids"]).clone()
        for row in (0, 1):
            by_hand[row, inputs["input_ids"][row] == tiny_model.config.image_token_id] = features[row]
        assert torch.equal(placed, by_hand)

    @pytest.mark.parametrize("ids", [[[258] * 3 + [5]], [[258] * 5]])
    def test_a_wrong_number_of_placeholders_is_an_error(self, ids: list[list[int]], tiny_model: Any, inputs: Any) -> None:
        with pytest.raises(ValueError, match=rf"{ids[0].count(258)} image placeholders .* gave 4 visual tokens; one picture needs 4"):
            tiny_model(torch.tensor(ids), pixel_values=inputs["pixel_values"][:1])

    def test_ids_and_embeddings_together_are_an_error(self, tiny_model: Any, inputs: Any) -> None:
        with pytest.raises(ValueError, match="exactly one"):
            tiny_model(inputs["input_ids"], inputs_embeds=torch.zeros(1, 2, 32))

    def test_embeddings_with_placeholders_equal_ids(self, tiny_model: Any, inputs: Any) -> None:
        embeds = tiny_model.get_input_embeddings()(inputs["input_ids"])
        rest = {"pixel_values": inputs["pixel_values"], "attention_mask": inputs["attention_mask"]}
        assert torch.equal(tiny_model(inputs_embeds=embeds, **rest).logits, tiny_model(**inputs).logits)


class TestPadding:
    def test_batch_equals_single_logits(self, tiny_model: Any, inputs: Any, singles: list[Any]) -> None:
        batch = tiny_model(**inputs).logits
        for row, single in enumerate(singles):
            alone = tiny_model(**single).logits[0]
            torch.testing.assert_close(batch[row, -alone.shape[0] :], alone, atol=1e-4, rtol=0)

    def test_right_padding_equals_single_logits(self, tiny_model: Any, singles: list[Any]) -> None:
        alone = singles[0]
        padded = {
            "input_ids": torch.nn.functional.pad(alone["input_ids"], (0, 7), value=257),
            "attention_mask": torch.nn.functional.pad(alone["attention_mask"], (0, 7)),
            "pixel_values": alone["pixel_values"],
        }
        length = alone["input_ids"].shape[1]
        torch.testing.assert_close(tiny_model(**padded).logits[:, :length], tiny_model(**alone).logits, atol=1e-4, rtol=0)

    def test_batch_equals_single_tokens_wherever_the_margin_is_clear(self, tiny_model: Any, inputs: Any, singles: list[Any]) -> None:
        batch = tiny_model.generate(**inputs, max_new_tokens=12, min_new_tokens=12, do_sample=False)[:, inputs["input_ids"].shape[1] :]
        compared = 0
        for row, single in enumerate(singles):
            out = tiny_model.generate(
                **single, max_new_tokens=12, min_new_tokens=12, do_sample=False, output_logits=True, return_dict_in_generate=True
            )
            alone = out.sequences[0, single["input_ids"].shape[1] :]
            for step, logits in enumerate(out.logits):
                top = logits[0].topk(2).values
                if top[0] - top[1] <= MARGIN:
                    break  # a tie may fall either way, and what follows it differs by right
                assert batch[row, step] == alone[step]
                compared += 1
        assert compared >= 24

    def test_right_padded_prompts_are_refused(self, tiny_model: Any, inputs: Any) -> None:
        with pytest.raises(ValueError, match="padded on the right"):
            tiny_model.generate(**inputs | {"attention_mask": inputs["attention_mask"].flip(1)}, max_new_tokens=1)


class TestGenerate:
    @pytest.mark.parametrize("options", [{"num_return_sequences": 3, "do_sample": True}, {"num_beams": 3}, {}])
    def test_every_picture_is_encoded_once(self, options: dict[str, Any], tiny_model: Any, inputs: Any) -> None:
        with tower_rows(tiny_model) as rows:
            tiny_model.generate(**inputs, max_new_tokens=4, **options)
        assert rows == [2]

    def test_candidates_see_their_own_row_and_pictures(self, tiny_model: Any, processor: Any, picture: Callable[[int], Any]) -> None:
        """Rows with two, none and one picture: all three beams' best answer equals the one without other rows."""
        pictures = [picture(0), picture(1), picture(2)]
        texts = ["<image>x<image>", "none", "<image>"]
        batch = processor(text=texts, images=pictures, padding=True, return_tensors="pt")
        options: dict[str, Any] = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 3, "do_sample": False}
        together = tiny_model.generate(**batch, **options)[:, batch["input_ids"].shape[1] :]
        own: list[list[Any]] = [pictures[:2], [], pictures[2:]]
        for row, (text, mine) in enumerate(zip(texts, own, strict=True)):
            single = processor(text=text, images=mine or None, return_tensors="pt")
            alone = tiny_model.generate(**single, **options)[:, single["input_ids"].shape[1] :]
            assert torch.equal(together[3 * row : 3 * row + 3, : alone.shape[1]], alone)

    @pytest.mark.parametrize("options", [{"use_cache": False}, {"cache_implementation": "static"}])
    def test_the_cache_does_not_change_the_answer(self, options: dict[str, Any], tiny_model: Any, inputs: Any) -> None:
        expected = tiny_model.generate(**inputs, max_new_tokens=6, do_sample=False)
        assert torch.equal(tiny_model.generate(**inputs, max_new_tokens=6, do_sample=False, **options), expected)

    def test_from_embeddings(self, tiny_model: Any, singles: list[Any]) -> None:
        single = singles[0]
        features = tiny_model.visual_tokens(single["pixel_values"]).features.flatten(0, 1)
        embeds = tiny_model.input_embeddings(single["input_ids"], features)
        new = tiny_model.generate(inputs_embeds=embeds, attention_mask=single["attention_mask"], max_new_tokens=6, do_sample=False)
        whole = tiny_model.generate(**single, max_new_tokens=6, do_sample=False)
        assert torch.equal(new, whole[:, single["input_ids"].shape[1] :])

    def test_features_given_beforehand(self, tiny_model: Any, inputs: Any) -> None:
        encoded = {"image": tiny_model.get_image_features(inputs["pixel_values"])}
        rest = {key: inputs[key] for key in ("input_ids", "attention_mask")}
        assert torch.equal(tiny_model(**rest, mm_encoder_outputs=encoded).logits, tiny_model(**inputs).logits)
        with pytest.raises(ValueError, match="give one of"):
            tiny_model(**inputs, mm_encoder_outputs=encoded)

    def test_tower_features_given_beforehand(self, tiny_model: Any, inputs: Any) -> None:
        towers = tiny_model.tower_features(inputs["pixel_values"])
        rest = {key: inputs[key] for key in ("input_ids", "attention_mask")}
        got, expected = tiny_model(**rest, tower_features=towers), tiny_model(**inputs)
        assert torch.equal(got.logits, expected.logits)
        assert torch.equal(got.visual_tokens.features, expected.visual_tokens.features)

    def test_a_picture_of_several_rows_is_read_once(self, tiny_model: Any, inputs: Any) -> None:
        pixels = inputs["pixel_values"]
        index = torch.tensor([1] + [0] * (len(pixels) - 1))
        rest = {key: inputs[key] for key in ("input_ids", "attention_mask")}
        got = tiny_model(**rest, pixel_values=pixels[:2], picture_index=index)
        torch.testing.assert_close(got.logits, tiny_model(**rest, pixel_values=pixels[index]).logits)
        assert len(got.visual_tokens.features) == 2

    @pytest.mark.parametrize("options", [{"num_beams": 2}, {}, {"use_cache": False}])
    def test_rows_that_show_one_picture(self, options: dict[str, Any], tiny_model: Any, singles: list[Any]) -> None:
        """Two rows of one picture, beams included; it goes through the tower once."""
        two = {key: torch.cat([singles[0][key]] * 2) for key in ("input_ids", "attention_mask")}
        pixels, index = singles[0]["pixel_values"], torch.tensor([0, 0])
        options = {"max_new_tokens": 6, "do_sample": False} | options
        with tower_rows(tiny_model) as rows:
            got = tiny_model.generate(**two, pixel_values=pixels, picture_index=index, **options)
        assert rows == [1]
        assert torch.equal(got, tiny_model.generate(**two, pixel_values=pixels[index], **options))

    @pytest.mark.parametrize("options", [{"num_beams": 2}, {}])
    def test_from_tower_features(self, options: dict[str, Any], tiny_model: Any, inputs: Any) -> None:
        options = {"max_new_tokens": 6, "do_sample": False} | options
        rest = {key: inputs[key] for key in ("input_ids", "attention_mask")}
        got = tiny_model.generate(**rest, tower_features=tiny_model.tower_features(inputs["pixel_values"]), **options)
        assert torch.equal(got, tiny_model.generate(**inputs, **options))

    @pytest.mark.parametrize("content", ["text", "chat"])
    def test_pipeline(self, content: str, tiny_model: Any, make_processor: Callable[..., Any], picture: Callable[[int], Any]) -> None:
        template = "{% for p in messages[0].content %}{% if p.type == 'image' %}<image>{% else %}{{ p.text }}{% endif %}{% endfor %}"
        pipe = pipeline("image-text-to-text", model=tiny_model, processor=make_processor(chat_template=template))
        if content == "text":
            answer = pipe(images=picture(0), text="<image>hello", max_new_tokens=3, do_sample=False, return_full_text=False)
        else:
            turns = [{"role": "user", "content": [{"type": "image", "image": picture(0)}, {"type": "text", "text": "hello"}]}]
            answer = pipe(text=turns, max_new_tokens=3, do_sample=False, return_full_text=False)
        expected = make_processor()(text="<image>hello", images=picture(0), return_tensors="pt")
        ids = tiny_model.generate(**expected, max_new_tokens=3, do_sample=False)[0, expected["input_ids"].shape[1] :]
        assert answer[0]["generated_text"] == pipe.tokenizer.decode(ids, skip_special_tokens=True)


class TestHead:
    def test_logits_only_where_asked(self, tiny_model: Any, inputs: Any) -> None:
        whole = tiny_model(**inputs).logits
        places = inputs["attention_mask"].bool() & (inputs["input_ids"] % 2 == 0)
        torch.testing.assert_close(tiny_model(**inputs, logits_to_keep=places).logits, whole[places])
        torch.testing.assert_close(tiny_model(**inputs, logits_to_keep=2).logits, whole[:, -2:])
        torch.testing.assert_close(tiny_model(**inputs, logits_to_keep=torch.tensor([1, 4])).logits, whole[:, [1, 4]])

    def test_labels_give_the_librarys_loss(self, tiny_model: Any, inputs: Any) -> None:
        labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
        out = tiny_model(**inputs, labels=labels)
        by_hand = torch.nn.functional.cross_entropy(out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        torch.testing.assert_close(out.loss, by_hand)

    def test_soft_cap_of_the_text_model(self, make_model: Callable[..., Any], tokenizer: Any, inputs: Any) -> None:
        text = SIZES | {"model_type": "gemma2", "vocab_size": len(tokenizer), "head_dim": 16, "final_logit_softcapping": 0.01}
        logits = make_model(text_config=text)(**inputs).logits
        assert logits.abs().max() <= 0.01


SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": 256,
    "pad_token_id": 257,
}
TEXT_MODELS: dict[str, dict[str, Any]] = {
    "llama": SIZES | {"model_type": "llama"},
    "qwen3": SIZES | {"model_type": "qwen3", "head_dim": 16},
    "gpt2": SIZES | {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2},
}
VIT = {"img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}
CLIP = {"embed_dim": 24, "vision_cfg": {"layers": 3, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 16}}
TOWERS: dict[str, dict[str, Any]] = {
    "timm": {"library": "timm", "name": "vit_tiny_patch16_224", "kwargs": VIT},
    "open_clip": {"library": "open_clip", "kwargs": CLIP},
}


class TestOtherParts:
    @pytest.mark.parametrize("name", TEXT_MODELS)
    def test_another_decoder(self, name: str, make_model: Callable[..., Any], tokenizer: Any, inputs: Any, tmp_path: Any) -> None:
        model = make_model(text_config=TEXT_MODELS[name] | {"vocab_size": len(tokenizer)})
        check_roundtrip(model, inputs, tmp_path)
        loaded = LvlmForConditionalGeneration.from_pretrained(tmp_path)
        assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
        with tower_rows(model) as rows:
            model.generate(**inputs, max_new_tokens=3)
        assert rows == [2]

    @pytest.mark.parametrize("name", TOWERS)
    def test_another_tower(self, name: str, make_model: Callable[..., Any], inputs: Any, tmp_path: Any) -> None:
        check_roundtrip(make_model(vision_config=TOWERS[name]), inputs, tmp_path)

    def test_the_class_token_takes_a_place(self, make_model: Callable[..., Any], make_processor: Callable[..., Any], picture: Any) -> None:
        model = make_model(vision_config=TOWERS["timm"], keep_cls=True)
        assert model.config.num_image_tokens == 5
        batch = make_processor(num_image_tokens=5)(text="<image>a", images=picture(0), return_tensors="pt")
        assert model(**batch).logits.shape[1] == 6


def test_equals_the_librarys_llava_with_the_same_weights(tiny_model: Any, inputs: Any) -> None:
    """An independent oracle: LLaVA with SigLIP and Qwen2."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    ours = tiny_model.config
    config = LlavaConfig(
        vision_config=ours.vision_config.to_dict(),
        text_config=ours.text_config.to_dict(),
        image_token_index=ours.image_token_id,
        vision_feature_select_strategy="full",
        vision_feature_layer=-2,
        tie_word_embeddings=True,
    )
    llava = LlavaForConditionalGeneration(config).eval()
    projector = llava.model.multi_modal_projector
    projector.linear_1, projector.linear_2 = tiny_model.model.adapter.linear_1, tiny_model.model.adapter.linear_2
    llava.model.vision_tower.load_state_dict(tiny_model.model.vision_tower.state_dict())
    llava.model.language_model.load_state_dict(tiny_model.model.language_model.state_dict())
    llava.tie_weights()
    real = inputs["attention_mask"].bool()  # ours counts positions from the mask, LLaVA's forward over the padding too
    torch.testing.assert_close(llava(**inputs).logits[real], tiny_model(**inputs).logits[real], atol=1e-5, rtol=0)


def check_roundtrip(model: Any, inputs: Any, folder: Any) -> None:
    model.save_pretrained(folder)
    loaded = AutoModelForImageTextToText.from_pretrained(folder).eval()
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


class TestTraining:
    def test_gradients_reach_everything_read(self, make_model: Callable[..., Any], inputs: Any) -> None:
        model = make_model()
        model(**inputs).logits.float().square().mean().backward()
        without = {name for name, p in model.named_parameters() if p.grad is None}
        assert all("vision_tower.encoder.layers.2." in name or "post_layernorm" in name for name in without)

    def test_gradient_checkpointing_gives_the_same_gradients(self, make_model: Callable[..., Any], inputs: Any) -> None:
        def gradients(checkpointing: bool) -> dict[str, torch.Tensor]:
            model = make_model().train()
            if checkpointing:
                model.gradient_checkpointing_enable()
            model(**inputs, labels=inputs["input_ids"], use_cache=False).loss.backward()
            return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

        plain, saved = gradients(False), gradients(True)
        assert plain.keys() == saved.keys()
        assert all(torch.allclose(plain[name], saved[name], atol=1e-6) for name in plain)

    def test_eager_and_sdpa_attention_agree(self, tiny_model: Any, inputs: Any, tmp_path: Any) -> None:
        tiny_model.save_pretrained(tmp_path)
        eager = LvlmForConditionalGeneration.from_pretrained(tmp_path, attn_implementation="eager").eval()
        assert eager.model.vision_tower.config._attn_implementation == "eager"
        assert tiny_model.model.language_model.config._attn_implementation == "sdpa"
        real = inputs["attention_mask"].bool()
        torch.testing.assert_close(eager(**inputs).logits[real], tiny_model(**inputs).logits[real], atol=1e-4, rtol=0)

    def test_lora(self, make_model: Callable[..., Any], inputs: Any, tmp_path: Any) -> None:
        from peft import LoraConfig, PeftModel, get_peft_model

        config = LoraConfig(
            r=2, target_modules=r".*language_model.*\.(q_proj|v_proj)", modules_to_save=["adapter"], init_lora_weights=False
        )
        tuned = get_peft_model(make_model(), config)
        tuned(**inputs, labels=inputs["input_ids"]).loss.backward()
        trained = {name for name, p in tuned.named_parameters() if p.grad is not None}
        assert trained
        assert all("lora_" in name or "modules_to_save" in name for name in trained)
        tuned.eval().save_pretrained(tmp_path)
        loaded = PeftModel.from_pretrained(make_model(), tmp_path).eval()
        assert torch.equal(loaded(**inputs).logits, tuned(**inputs).logits)
        assert tuned.generate(**inputs, max_new_tokens=2).shape[1] <= inputs["input_ids"].shape[1] + 2
        merged = tuned.merge_and_unload()
        torch.testing.assert_close(merged(**inputs).logits, loaded(**inputs).logits, atol=1e-4, rtol=1e-4)


def test_the_heavy_libraries_import_together() -> None:
    """A torchvision that does not fit torch breaks this in the last line (`operator torchvision::nms does not exist`)."""
    import open_clip
    import timm
    import torch
    from transformers import AutoProcessor

    assert all((open_clip, timm, torch, AutoProcessor))
