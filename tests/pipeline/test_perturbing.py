"""`embryo perturb`: edits of a finished run, and of new cells."""

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import torch
from pipeline.test_newcells import cells  # type: ignore[import-not-found]

from embryo import config as configs
from embryo import pipeline, read
from embryo.core import schema, store
from embryo.core.edit import Edit, Operation
from embryo.core.errors import EditError
from embryo.pipeline import perturbing
from embryo.pipeline.perturbing import arms, effects, told
from embryo.pipeline.perturbing.support import Support
