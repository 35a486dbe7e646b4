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
# # A first embryo
#
# Three small synthetic embryos, seen every two hours without tracks. We embed the cells, lay the embryos into one body
# frame, couple the times, fit a law of motion, and roll one embryo forward with and without the gene *tail*.
# The edited truth is known here, so at the end we hold the prediction against it, and against saying "no change".

# %%
import tempfile
from pathlib import Path

import numpy as np
import torch
from IPython.display import Image

import embryo as eb
from embryo.core import schema
from embryo.datasets import synthetic

times_h = [4.0, 8.0, 12.0, 16.0]
params = synthetic.Params(n_cells=500)
adata = synthetic.generate(n_embryos=3, seed=0, times_h=times_h, params=params)
adata

# %% [markdown]
# Each embryo lies in the microscope in its own way. `body_frame` finds one proper rotation per embryo; `wt-2` is to be
# predicted, so nothing after its first time is used, neither to align nor to fit.

# %%
train = (adata.obs["embryo"] != "wt-2").to_numpy()
encoder = eb.encoders.build("pca", dims=15).fit(adata[train])
eb.embed.cells(adata, encoder)
eb.embed.panel(adata, synthetic.PANEL)
eb.reconstruct.body_frame(adata, reference="wt-0", until_h={"wt-2": 4.0})

# %%
training = adata[train]
couplings = eb.couple.series(training, transport=eb.couple.Transport(max_cells=600))
field = eb.fit.flow(training, couplings, eb.fit.Training(steps=400, width=64))

# %% [markdown]
# The knock-out acts on production and is held through the whole roll-out.

# %%
rows = np.flatnonzero(~train & (adata.obs["time"] == 4.0).to_numpy())
start = eb.fit.states(adata[rows])
response = torch.as_tensor(encoder.response(synthetic.PANEL), dtype=torch.float32)
context = eb.perturb.Context(panel=synthetic.PANEL, response=response, decay_per_h=1.0)
edited_field, edited_start = eb.perturb.apply(field, start, [eb.perturb.knockout("tail")], context, t0_h=4.0)

control = eb.simulate.forward(field, start, times_h, step_h=0.5, panel=synthetic.PANEL)
edited = eb.simulate.forward(edited_field, edited_start, times_h, step_h=0.5, panel=synthetic.PANEL)

# %%
labels = adata.obs["cell_type"].astype(str).to_numpy()
fate = eb.measure.fates(adata.obsm[schema.EMBED][train], labels[train], groups=adata.obs["embryo"].to_numpy()[train])
print(fate)
table = eb.measure.difference([control], [edited], fate=fate, times_h=[16.0])
table[table["role"] == "difference"][["metric", "value", "unit"]].round(3)

# %%
moments = eb.render.Moments({"control": control, "knockout tail": edited}, lambda s: fate.predict(s.z.numpy()), "fate")
picture = eb.render.picture(list(moments[-1]), Path(tempfile.mkdtemp()) / "embryos.png")
Image(str(picture), width=900)

# %% [markdown]
# Is it true? An embryo that truly lacks the gene, another wild type ("no change"), and our edited embryo, by the
# composition of fates. A first network fitted to wild type alone is not expected to win; the point is that we can tell.

# %%
truth = synthetic.generate(n_embryos=1, seed=9, edits=[eb.perturb.knockout("tail")], times_h=[4.0, 16.0], params=params)
eb.embed.cells(truth, encoder)
end = (truth.obs["time"] == 16.0).to_numpy()
wild = (train & (adata.obs["time"] == 16.0)).to_numpy()


def shares(z, mass=None):
    z = np.asarray(z, dtype=float)
    return eb.measure.composition(fate.predict(z), np.ones(len(z)) if mass is None else mass, fate.fates)


true = shares(truth.obsm[schema.EMBED][end])
predictions = {
    "our knock-out": shares(edited.z[-1].numpy(), edited.log_mass[-1].exp().numpy().astype(float)),
    "no change": shares(adata.obsm[schema.EMBED][wild]),
}
{name: round(eb.measure.bray_curtis(p, true), 3) for name, p in predictions.items()}
