"""What is known about each encoder: cards, training corpora, and whether these leak what a run holds out."""
