# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Foundation models as encoders
#
# Published weights are yours to download (`embryo encoders card NAME` says where) and are opened from their folder.
# Here a tiny network of scGPT's architecture with **random** weights stands in for them: the code is the same, what it
# says about cells is not worth anything, and every table says so.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import embryo as eb
from embryo.core import schema
from embryo.core.edit import Edit
from embryo.datasets import synthetic
from embryo.encoders.options import Options

adata = synthetic.generate(n_embryos=3, seed=0, times_h=[8.0, 16.0], params=synthetic.Params(n_cells=300))
folder = Path(tempfile.mkdtemp()) / "scgpt"
eb.encoders.model("scgpt").write_tiny(folder, list(adata.var_names), seed=0)
adata

# %% [markdown]
# Opening reads every weight and accounts for every key. `map_genes` says how much of the data the model reads.

# %%
encoder = eb.embed.encoder("scgpt", folder, Options(species="Homo sapiens", dims=10))
print(encoder.axes)
print(encoder.map_genes(adata).coverage)

# %% [markdown]
# `fit` leaves the network as it is: it fits the reduction and the way back to genes, on training embryos only. The
# error of the way back is that on embryos which its fit did not see, beside the mean of the training cells.

# %%
train = adata[(adata.obs["embryo"] != "wt-2").to_numpy()].copy()
encoder = encoder.fit(train)
eb.embed.cells(adata, encoder)
print(encoder.decoder.held_out)
{key: value for key, value in encoder.provenance().items() if key in ("weights", "corpus", "leaks", "layer", "dtype")}

# %%
pca = eb.encoders.build("pca", dims=10).fit(train)
fig, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
both = {"PCA": pca.encode(adata), "scGPT, random weights": encoder.encode(adata)}
for ax, (name, z) in zip(axes, both.items(), strict=True):
    for fate in adata.obs["cell_type"].astype("category").cat.categories:
        who = (adata.obs["cell_type"] == fate).to_numpy()
        ax.scatter(z[who, 0], z[who, 1], s=4, label=fate)
    ax.set(title=name, xlabel="component 1", ylabel="component 2")
axes[1].legend(markerscale=3, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# An edit goes through the gene inputs, before any tokenising, with one meaning for every model. How far the embedding
# moves, by cell type, as a share of the spread of all cells:

# %%
gene = synthetic.PANEL[0]
z = adata.obsm[schema.EMBED]
moved = np.linalg.norm(encoder.encode(adata, [Edit(gene)]) - z, axis=1) / np.linalg.norm(z.std(axis=0))
adata.obs.assign(moved=moved).groupby("cell_type", observed=True)["moved"].mean().round(3)
