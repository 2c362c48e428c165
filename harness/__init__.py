"""quant-gate: a pytest gate for llama.cpp quantization pull requests."""

__version__ = "0.1.0"
