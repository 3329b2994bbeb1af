"""How much of a GPU a training step of ours uses: model FLOPs utilisation of a random model; says so where there is no GPU.

python scripts/bench/train_gpu.py
"""

from __future__ import annotations

import time
from typing import Any

import torch

from mm_align.losses import IGNORE, LmObjective
from mm_align.models import LvlmConfig, LvlmForConditionalGeneration
from mm_align.models.llava_layout import TOWERS
from mm_align.train import train_only

LR = 1e-4


def utilisation(layers: int = 24, width: int = 2048, length: int = 2048, batch: int = 8, steps: int = 20) -> None:
    """Model FLOPs utilisation of a random model of 1.6 B parameters (1.3 B of them train) in bf16 on one GPU, whole steps.

    Written without a GPU at hand: NEVER RUN so far, no figure of it stands anywhere. FLOPs: 6 a trained parameter and token, 2 a
    frozen one of the tower, 12 L T d a token for attention (Kaplan et al. 2020; PaLM appendix B); peak from the card's name.
    """
    peaks = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12}
    name = torch.cuda.get_device_name()
    peak = next((flops for card, flops in peaks.items() if card in name), None)
    if peak is None:
        raise SystemExit(f"no peak is known here for {name}; known: {', '.join(peaks)}")
    model, inputs = random_model(layers, width, length, batch)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], LR, fused=True)
    for step in range(steps + 3):
        if step == 3:
            torch.cuda.synchronize()
            started = time.perf_counter()
        LmObjective()(model, inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - started) / steps
    tower = sum(p.numel() for p in model.model.vision_tower.parameters())
    trained = model.num_parameters() - tower - model.get_input_embeddings().weight.numel()
    patches = batch * model.config.num_image_tokens
    flops = batch * length * (6 * trained + 12 * layers * width * length) + 2 * tower * patches
    print(
        f"{name}: {model.num_parameters():,} parameters, {batch * length / seconds:,.0f} tokens a second, MFU {flops / seconds / peak:.1%}"
    )


def random_model(layers: int, width: int, length: int, batch: int, device: str = "cuda") -> tuple[Any, dict[str, torch.Tensor]]:
    """CLIP-L/14-336, an MLP and a Llama-like decoder; each row shows one picture and trains on the rest."""
    config = LvlmConfig(
        vision_config=dict(TOWERS["clip-vit-large-patch14-336"]), adapter={"type": "mlp", "bias": True}, image_token_id=1,
        text_config={"model_type": "llama", "vocab_size": 32064, "hidden_size": width, "intermediate_size": 4 * width * 2 // 3 // 256 * 256,
                     "num_hidden_layers": layers, "num_attention_heads": width // 128, "num_key_value_heads": width // 128},
    )  # fmt: skip
    with torch.device(device):
        model = LvlmForConditionalGeneration(config).to(torch.bfloat16)
        train_only(model, ["adapter", "language_model"])
        ids = torch.randint(2, 32000, (batch, length))
        ids[:, : config.num_image_tokens] = 1
        labels = ids.clone()
        labels[:, : config.num_image_tokens] = IGNORE
        pixels = torch.randn(batch, 3, 336, 336, dtype=torch.bfloat16)
    return model.train(), {"input_ids": ids, "labels": labels, "pixel_values": pixels}


if __name__ == "__main__":
    if torch.cuda.is_available():
        utilisation()
    else:
        print("no GPU here: nothing to measure")
