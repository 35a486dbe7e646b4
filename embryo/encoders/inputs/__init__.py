"""From counts to tokens: normalising, counting, edits, bins, ranks, sentences, batches."""
