"""The base network in PyTorch, written from DESIGN.md's description: what `sfm-train` is compared with.

Parameters are registered in the order in which the Rust modules declare theirs.
"""

import math

import torch
from torch import nn

CHANNELS = [1, 4, 8, 16, 32, 64, 128]


class ConvBlock(nn.Module):
    """Convolution, BatchNorm, ELU, and LayerNorm over channels and length together."""

    def __init__(self, inputs, outputs, length):
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, 5, stride=2, padding=2)
        self.batch_norm = nn.BatchNorm1d(outputs)
        self.norm = nn.LayerNorm(outputs * length)

    def forward(self, x):
        x = nn.functional.elu(self.batch_norm(self.conv(x)))
        return self.norm(x.flatten(1)).view_as(x)


class Tokenizer(nn.Module):
    def __init__(self, patch_samples, embed_dim):
        super().__init__()
        sizes = zip(CHANNELS, CHANNELS[1:])
        self.blocks = nn.Sequential(
            *(ConvBlock(a, b, patch_samples >> (i + 1)) for i, (a, b) in enumerate(sizes))
        )
        self.linear = nn.Linear(CHANNELS[-1], embed_dim)

    def forward(self, patches):
        return self.linear(self.blocks(patches.unsqueeze(1)).mean(2))


class TransformerLayer(nn.Module):
    """PyTorch's own layer, with a float mask of what is present."""

    def __init__(self, embed_dim, heads, feed_forward, dropout, norm_first):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(
            embed_dim, heads, feed_forward, dropout, batch_first=True, norm_first=norm_first
        )

    def forward(self, x, present):
        return self.layer(x, src_key_padding_mask=present == 0)


class Pooling(nn.Module):
    def __init__(self, embed_dim, heads, feed_forward, dropout):
        super().__init__()
        self.layer = TransformerLayer(embed_dim, heads, feed_forward, dropout, norm_first=False)

    def forward(self, tokens, present):
        x = self.layer(tokens, present) * present.unsqueeze(2)
        return x.sum(1) / present.sum(1, keepdim=True).clamp(min=1)


class Encoder(nn.Module):
    def __init__(self, embed_dim, heads, layers, feed_forward, dropout, length):
        super().__init__()
        position = torch.arange(length).double().unsqueeze(1)
        angle = position * torch.exp(
            torch.arange(0, embed_dim, 2).double() * (-math.log(10000.0) / embed_dim)
        )
        table = torch.stack([angle.sin(), angle.cos()], 2).flatten(1).to(torch.get_default_dtype())
        self.register_buffer("table", table)
        self.norm = nn.LayerNorm(embed_dim)
        self.layers = nn.ModuleList(
            TransformerLayer(embed_dim, heads, feed_forward, dropout, norm_first=True)
            for _ in range(layers)
        )
        self.pooling = Pooling(embed_dim, heads, feed_forward, dropout)

    def forward(self, tokens, present):
        x = self.norm(tokens + self.table[: tokens.shape[1]])
        for layer in self.layers:
            x = layer(x, present)
        return x, self.pooling(x, present)


class Base(nn.Module):
    """`patches` [N, C, T, S] and `present` [N, C, T] to tokens [N, T, E] and windows [N, E]."""

    def __init__(self, embed_dim=128, heads=8, layers=6, feed_forward=2048, dropout=0.3,
                 patch_samples=640, length=128):
        super().__init__()
        self.tokenizer = Tokenizer(patch_samples, embed_dim)
        self.pooling = Pooling(embed_dim, heads, feed_forward, dropout)
        self.encoder = Encoder(embed_dim, heads, layers, feed_forward, dropout, length)

    def forward(self, patches, present):
        n, channels, tokens, samples = patches.shape
        x = self.tokenizer(patches.reshape(-1, samples))
        x = x.view(n, channels, tokens, -1).transpose(1, 2).reshape(n * tokens, channels, -1)
        members = present.transpose(1, 2).reshape(n * tokens, channels)
        x = self.pooling(x, members).view(n, tokens, -1)
        return self.encoder(x, present.amax(1))
