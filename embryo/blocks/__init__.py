"""Blocks: parts of networks that encoders and fields share. They know tensors, not genes, cells or files."""
