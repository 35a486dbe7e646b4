"""What can be wrong with a table of cells, one file per kind of slot.

These functions see arrays and the name of the slot they came from, never an AnnData: `embryo.core.schema.check` knows
where things lie, this folder knows what is wrong with them. Each yields problems and never raises on odd values.
"""
