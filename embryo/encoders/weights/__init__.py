"""Weights out of files: safetensors, torch, MindSpore; nothing that could run code."""
