"""Which gene of a model each gene of the data is: names, ids, orthologs, tables of genes."""
