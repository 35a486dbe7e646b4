"""C2S-Scale: a language model that reads a cell as a sentence of gene symbols (Rizvi et al. 2025; weights CC-BY-4.0).

A folder holds ``config.json`` of a Gemma-2 or a Pythia (GPT-NeoX), the weights, in shards or whole, and
``tokenizer.json``. The vocabulary is open: whatever symbol the data hold is read, in upper case, human or mouse.
``Options.variant`` is the number of genes in a sentence (200). Upstream's mean runs over padding too; here it does not.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from torch import nn

from embryo.core import schema
from embryo.core.edit import Edit
from embryo.core.errors import ConfigError, Problem, SchemaError, StoreError
from embryo.encoders.genes import genenames
from embryo.encoders.genes.genemap import UNMAPPED, Coverage, GeneMap
from embryo.encoders.inputs import counting, sentences
from embryo.encoders.inputs.sentences import RankLine
from embryo.encoders.inputs.tokens import SPECIAL, Axes, Encoded, Profiles, TokenBatch, Tokens
from embryo.encoders.networks import architecture, causal
from embryo.encoders.options import Options
from embryo.encoders.pretrained import Pretrained
from embryo.encoders.weights import checkpoint

TOKENIZER = "tokenizer.json"
PROMPT = "Control cell: {sentence}\nPerturbation: {edit}\nPerturbed cell:"
_SENTENCE = 200  # genes
_TOKENS_PER_GENE = 6  # room for what the model writes
_SPECIES = ("Homo sapiens", "Mus musculus")


class C2S(Pretrained):
    """C2S-Scale; see the module.

    `poolings`: ``mean`` over all real tokens; ``last``, the last one. `targets` grow with the symbols that are met; a
    symbol keeps its column.
    """

    name = "c2s"
    ids = "symbol"
    axes = Axes("its symbol, as text", "none: the order says it", "ranked by expression, ties drawn; first k genes")
    poolings = ("mean", "last")
    files = (*architecture.WEIGHTS, "model.safetensors.index.json", TOKENIZER)
    tokenizer: Any
    layer: int
    pooling: str
    length: int
    limit: int

    @classmethod
    def read(cls, folder: Path, options: Options) -> "C2S":
        """Read a folder; weights stay in bfloat16 where ``Options.dtype`` asks for it: half the memory.

        Raises
        ------
        StoreError
            If files are missing or damaged, or the tokenizer has more tokens than the embedding rows.
        ConfigError
            If the layer, the pooling or the number of genes does not exist.
        """
        config = architecture.read_config(folder, "gemma2", "gpt_neox")
        tokenizer = read_tokenizer(folder)
        if tokenizer.get_vocab_size() > config.vocab_size:  # published embeddings are padded to round numbers
            checkpoint.require_rows(tokenizer.get_vocab_size(), config.vocab_size, subject=folder.name)
        length = options.variant or str(_SENTENCE)
        if not length.isdecimal() or int(length) < 1:
            found = f"variant {length!r}"
            raise ConfigError(Problem(found, "the number of genes in a sentence", "give 200 to 1000"), subject=cls.name)
        pooling, layer = cls.pooling_of(options), cls.layer_of(options, config.num_hidden_layers, -1)
        dtype = torch.bfloat16 if options.dtype == "bfloat16" else torch.float32
        encoder = cls((), causal.read(folder, config, dtype), options, width=config.hidden_size)
        encoder.tokenizer, encoder.layer, encoder.pooling = tokenizer, layer, pooling
        encoder.length, encoder.limit = int(length), config.max_position_embeddings
        return encoder

    @classmethod
    def write_tiny(cls, folder: Path, genes: Sequence[str], seed: int = 0, *, family: str = "gemma2") -> Path:
        """Write a network of 2 layers, 32 wide, and a tokenizer with one token per gene; see `Pretrained`."""
        words = {
            word: n for n, word in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", *sorted({g.upper() for g in genes})])
        }
        with architecture.seeded(seed):
            network = build(_tiny(family, len(words)))
        architecture.save_random(network, folder, seed)
        _word_level(words).save(str(folder / TOKENIZER))
        return folder

    def map_genes(self, adata: AnnData) -> GeneMap:
        """Return the symbol of each gene, upper case; every symbol that the tokenizer can spell is read.

        Raises
        ------
        SchemaError
            If fewer genes than `Options.min_coverage` have a symbol, or the species is neither human nor mouse.
        """
        names = genenames.of(adata.var)
        said = self.options.species or schema.meta(adata).get("organism")
        species = genenames.species(names, said, self.species)
        words = self._spelled([symbol.upper() if len(symbol.split()) == 1 else "" for _, symbol in names])
        problems = []
        if species not in _SPECIES:
            problems.append(Problem(f"genes of {species}", " or ".join(_SPECIES), "choose a model of that species"))
        read = sum(map(bool, words))
        if read < self.options.min_coverage * len(words):
            found = f"symbols of {read} of {len(words)} genes"
            cure = f"put symbols into var['{genenames.SYMBOL_COLUMNS[0]}']: the model reads these"
            problems.append(Problem(found, f"at least {self.options.min_coverage:.0%}", cure))
        if problems:
            raise SchemaError(*problems, subject="gene map")
        self._open(words)
        return self._map_of(adata, words, species)

    def profiles(self, adata: AnnData, gene_map: GeneMap | None = None) -> Iterator[tuple[slice, Profiles]]:
        """Yield blocks as `Pretrained.profiles` does, keyed by symbols: columns depend on what was met before."""
        for rows, cells in super().profiles(adata, gene_map):
            yield rows, replace(cells, keys=sentences.keys(cells, sentences.hashed(self.targets)))

    def tokenize(self, profiles: Profiles) -> Tokens:
        """Return the tokens of each cell's sentence; a token belongs to the gene that its last letter is of."""
        found = sentences.order(profiles, sentences.hashed(self.targets), self.seed, self.length)
        spelled = [[self.targets[c] for c in columns] for columns in found]
        encoded = self.tokenizer.encode_batch([" ".join(words) for words in spelled])
        ids, columns = [], []
        for words, genes, each in zip(spelled, found, encoded, strict=True):
            starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])
            ends = np.array([end for _, end in each.offsets], dtype=np.int64)
            special = np.array(each.special_tokens_mask, dtype=bool) | (ends < 1)
            owner = np.searchsorted(starts, np.maximum(ends - 1, 0), side="right") - 1
            ids.append(np.array(each.ids, dtype=np.int64)[: self.limit])
            columns.append(np.where(special, SPECIAL, genes[owner] if len(genes) else SPECIAL)[: self.limit])
        return Tokens(tuple(ids), tuple(columns))

    def forward(self, batch: TokenBatch) -> Encoded:
        """Return tokens at the wanted layer, and the cell as their mean or as the last one."""
        states = causal.hidden(self.network, batch.ids, batch.keep, self.layer)
        return Encoded(causal.pooled(states, batch.keep, batch.keep, self.pooling), states, batch.columns, batch.keep)

    def batches(self, tokens: Tokens, *, exact: bool = False) -> Iterator[tuple[np.ndarray, Encoded]]:
        """Yield batches as `Pretrained.batches` does; `exact` in float32 also where weights are kept in bfloat16."""
        with causal.in_float32(self.network) if exact else nullcontext():
            yield from super().batches(tokens, exact=exact)

    # ------------------------------------------------------------ sentences of edited cells

    def perturbed(self, adata: AnnData, edits: Sequence[Edit], *, prompt: str = PROMPT) -> list[list[str]]:
        """Return the sentence that the model writes for each cell after an edit, the likeliest token at each step.

        Parameters
        ----------
        adata
            Control cells, raw counts.
        edits
            Named in the prompt by their labels; the control sentence stays as measured.
        prompt
            With ``{sentence}`` and ``{edit}``. Use the wording that the weights were trained on; it differs between
            releases.

        Returns
        -------
        list of list of str
            Words, upper case, at most as many as a sentence has; whether they are genes is not checked.
        """
        said = ", ".join(edit.label for edit in edits)
        out = []
        for _, cells in self.profiles(adata):
            for columns in sentences.order(cells, sentences.hashed(self.targets), self.seed, self.length):
                text = prompt.format(sentence=" ".join(self.targets[c] for c in columns), edit=said)
                out.append(self._written(text, len(columns)))
        return out

    def line(self, adata: AnnData) -> RankLine:
        """Return the line that leads from ranks back to expression, fitted on the first block of these cells."""
        _, cells = next(iter(self.profiles(adata)))
        return RankLine.fit(cells, sentences.order(cells, sentences.hashed(self.targets), self.seed, self.length))

    def provenance(self) -> dict[str, Any]:
        """Return `Pretrained.provenance` with the length of a sentence."""
        return super().provenance() | {"genes_per_sentence": self.length}

    def _written(self, text: str, words: int) -> list[str]:
        """Return what the model writes after a text."""
        ids = self.tokenizer.encode(text).ids
        room = min(_TOKENS_PER_GENE * words, self.limit - len(ids))
        if room < 1:
            found = f"a prompt of {len(ids):,} tokens"
            cure = "shorten the sentence (variant) or the prompt"
            raise ConfigError(Problem(found, f"room in a context of {self.limit:,}", cure), subject=self.name)
        network: Any = self.network
        asked = torch.tensor([ids], device=self.options.device)
        with torch.inference_mode(), self.options.precision():
            whole = network.generate(
                asked,
                attention_mask=torch.ones_like(asked),
                do_sample=False,
                max_new_tokens=room,
                pad_token_id=self.pad,
            )
        written: str = self.tokenizer.decode(whole[0, len(ids) :].tolist())
        return written.upper().split()[: self.length]

    def _map_of(self, adata: AnnData, words: Sequence[str], species: str) -> GeneMap:
        genes = tuple(map(str, adata.var_names))
        sums = next((np.asarray(counts.sum(axis=0)).ravel() for _, counts in counting.blocks(adata)), np.zeros(0))
        read = sums[np.array([bool(word) for word in words])[: len(sums)]].sum()
        column = {word: k for k, word in enumerate(self.targets)}
        times = Counter(word for word in words if word)
        coverage = Coverage(
            n_data=len(genes),
            n_targets=len(self.targets),
            n_mapped_data=sum(times.values()),
            n_mapped_targets=len(times),
            duplicates=tuple(word for word, n in times.items() if n > 1),
            unmapped=tuple(gene for gene, word in zip(genes, words, strict=True) if not word),
            steps={"direct": sum(times.values())},
            refused={"without a symbol that the model spells": n} if (n := len(genes) - sum(times.values())) else {},
            data_species=species,
            species=species,
            share_of_counts=float(read / sums.sum()) if sums.sum() > 0 else None,
        )
        target_of = np.array([column.get(word, UNMAPPED) for word in words], dtype=np.int64)
        return GeneMap(genes, self.targets, target_of, coverage)

    def _spelled(self, words: Sequence[str]) -> list[str]:
        """Return the words, empty where the tokenizer has no letters for them; byte-level ones have all."""
        unknown = self.tokenizer.token_to_id(getattr(self.tokenizer.model, "unk_token", None) or "")
        encoded = self.tokenizer.encode_batch(list(words), add_special_tokens=False)
        return [word if unknown not in each.ids else "" for word, each in zip(words, encoded, strict=True)]

    def _open(self, words: Sequence[str]) -> None:
        """Give symbols that were never met their columns, after those that were."""
        new = sorted(set(words) - set(self.targets) - {""})
        self.targets = (*self.targets, *new)


def read_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a folder; `StoreError` where there is none or it is damaged."""
    architecture.library()
    from tokenizers import Tokenizer  # noqa: PLC0415  comes with transformers

    path = checkpoint.find(folder, TOKENIZER)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises the base class itself
        found = f"a file that is no tokenizer ({str(error)[:160]})"
        raise StoreError(Problem(found, TOKENIZER, "download it again"), subject=path.name) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def sizes() -> dict[str, dict[str, Any]]:
    """Return the published sizes that fit one machine, each as `build` takes it."""
    return {
        "Pythia-410M": _pythia(24, 1024, 16),
        "Pythia-1B": _pythia(16, 2048, 8),
        "Gemma-2-2B": {
            "model_type": "gemma2",
            "hidden_size": 2304,
            "num_hidden_layers": 26,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "intermediate_size": 9216,
            "vocab_size": 256_000,
        },
    }


def build(config: Any) -> nn.Module:
    """Return the network of a configuration, or of one of `sizes`, with random weights."""
    library = architecture.library()
    if isinstance(config, Mapping):
        config = library.AutoConfig.for_model(**config)
    network: nn.Module = library.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return network


def _pythia(layers: int, width: int, heads: int) -> dict[str, Any]:
    return {
        "model_type": "gpt_neox",
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "vocab_size": 50_304,
    }


def _tiny(family: str, rows: int) -> dict[str, Any]:
    size = _pythia(2, 32, 4) | {"model_type": family, "vocab_size": rows, "max_position_embeddings": 512}
    if family == "gemma2":
        size |= {"num_key_value_heads": 2, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16}
    return size | {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}


def _word_level(words: Mapping[str, int]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors  # noqa: PLC0415  comes with transformers

    tokenizer = Tokenizer(models.WordLevel(dict(words), unk_token="<unk>"))  # noqa: S106  a word, not a secret
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", words["<bos>"])]
    )
    return tokenizer
