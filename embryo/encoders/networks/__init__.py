"""Networks that several readers share, or that are long."""
