"""A small causal transformer, for `charlm`. B batch, T positions, V symbols, D width, H heads.

Sources: A. Vaswani et al., "Attention Is All You Need", 2017, arXiv 1706.03762; normalisation before each part, as in
R. Xiong et al., "On Layer Normalization in the Transformer Architecture", 2020, arXiv 2002.04745; initial weights as in
A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019 (GPT-2).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

INITIAL_SD = 0.02


class Block(nn.Module):
    """Attention over what came before, then a perceptron on each position; both are added to what they read."""

    def __init__(self, *, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.before_attention, self.before_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Map (B, T, D) to (B, T, D); position t depends on positions up to t."""
        x_BTD = x_BTD + self._dropped(self.out(self._attention(self.before_attention(x_BTD))))
        return x_BTD + self._dropped(self.perceptron(self.before_perceptron(x_BTD)))

    def _attention(self, x_BTD: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.queries_keys_values(x_BTD).chunk(3, -1)
        )
        dropout = self.dropout if self.training else 0.0
        mixed_BHTd = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return mixed_BHTd.transpose(1, 2).flatten(2)

    def _dropped(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)


class Transformer(nn.Module):
    """Symbols (B, T), any integer type, to scores of the next symbol at each position, (B, T, V)."""

    def __init__(self, *, symbols: int, positions: int, width: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.symbol, self.position = nn.Embedding(symbols, width), nn.Embedding(positions, width)
        self.blocks = nn.Sequential(*(Block(width=width, heads=heads, dropout=dropout) for _ in range(layers)))
        self.norm, self.scores = nn.LayerNorm(width), nn.Linear(width, symbols)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=INITIAL_SD)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, symbols_BT: Tensor) -> Tensor:
        """Map symbols (B, T) to scores (B, T, V)."""
        place_T = torch.arange(symbols_BT.shape[1], device=symbols_BT.device)
        x_BTD = self.symbol(symbols_BT.long()) + self.position(place_T)
        scores_BTV: Tensor = self.scores(self.norm(self.blocks(x_BTD)))
        return scores_BTV
