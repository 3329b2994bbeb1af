"""Chat templates for language models that bring none, or none that shows pictures: name -> Jinja."""

from __future__ import annotations

from pathlib import Path

from ..config import UserError

# Each image part is the processor's image token and a newline, as LLaVA writes it.
_PARTS = (
    "{%- macro show(m) -%}{%- if m['content'] is string -%}{{ m['content'] }}{%- else -%}{%- for p in m['content'] -%}"
    "{%- if p['type'] == 'image' -%}{{ '<image>\\n' }}{%- else -%}{{ p['text'] }}{%- endif -%}{%- endfor -%}{%- endif -%}{%- endmacro -%}"
)
_START = "{{- bos_token if bos_token is defined and bos_token else '' -}}"

# LLaVA-1.5's conversation "v1" [R: haotian-liu/LLaVA llava/conversation.py, conv_vicuna_v1]
VICUNA = (
    _PARTS + _START + '{%- set ns = namespace(system="A chat between a curious user and an artificial intelligence assistant. '
    "The assistant gives helpful, detailed, and polite answers to the user's questions.\") -%}"
    "{%- for m in messages if m['role'] == 'system' -%}{%- set ns.system = show(m) -%}{%- endfor -%}{{- ns.system + ' ' -}}"
    "{%- for m in messages -%}{%- if m['role'] == 'user' -%}{{- 'USER: ' + show(m) + ' ' -}}"
    "{%- elif m['role'] == 'assistant' -%}{{- 'ASSISTANT: ' + show(m) + eos_token -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}"
)
# LLaVA's conversation "plain" of stage 1: the picture alone, then the caption [R: llava/train/train.py, preprocess_plain]
LLAVA_PRETRAIN = (
    _PARTS + _START + "{%- for m in messages -%}{%- if m['role'] == 'user' -%}{{- '<image>' * show(m).count('<image>') -}}"
    "{%- elif m['role'] == 'assistant' -%}{{- show(m) + '\\n' -}}{%- endif -%}{%- endfor -%}"
)
# The format of Qwen2 and many others
CHATML = (
    _PARTS + "{%- for m in messages -%}{{- '<|im_start|>' + m['role'] + '\\n' + show(m) + '<|im_end|>\\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
CHAT_TEMPLATES = {"vicuna": VICUNA, "llava-pretrain": LLAVA_PRETRAIN, "chatml": CHATML}


def chat_template(name: str, image_token: str = "<image>") -> str:
    """The template of that name, or the content of the file `name`. UserError where it is neither."""
    if name in CHAT_TEMPLATES:
        return CHAT_TEMPLATES[name].replace("<image>", image_token)
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(CHAT_TEMPLATES)
        raise UserError(f"no chat template '{name}': it is neither one of {known} nor a file that can be read ({error})") from error
