"""The way back from an embedding to genes: decoder, its held-out error, responses, and what a run keeps."""
