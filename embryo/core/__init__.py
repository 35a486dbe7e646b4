"""Types and contracts: the nouns that every stage speaks. No behaviour of any stage lives here."""
