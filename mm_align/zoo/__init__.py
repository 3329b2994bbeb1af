"""The bundled models: safetensors, processors and cards, one folder a model. No code."""
