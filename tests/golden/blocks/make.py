"""Writes the golden blocks: for each tensor encoding, TYPE.bin (raw blocks) and TYPE.f32 (what they
decode to, little-endian float32) by the `gguf` package, the reference implementation in NumPy.

    pip install gguf==0.19.0 numpy==2.4.6
    python tests/golden/blocks/make.py

Blocks come from the package's quantizer where it has one, fed with rows of very different scales
(subnormal as half-precision numbers, near the largest half, all zero, one outlier, one sign only), and
from random bytes with chosen scale fields, which reach codes that a quantizer never writes.
"""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, dequantize, quantize
from gguf.constants import GGML_QUANT_SIZES

FOLDER = Path(__file__).parent
RANDOM = np.random.default_rng(20240817)

# Half-precision fields within a block, by offset in bytes.
HALF_FIELDS = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}

# Zero, minus zero, the smallest and the largest subnormal, the smallest normal number, 1, and the
# largest finite number, then some of either sign in between.
HALVES = np.array(
    [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x83FF, 0x0400, 0x3C00, 0xBC00, 0x7BFF, 0xFBFF,
     0x2E66, 0xAE66, 0x1234, 0x9234, 0x5678], dtype="<u2")


def numbers(n_blocks: int, block_len: int) -> np.ndarray:
    """Rows of float32 whose scales a block format has trouble with."""
    scales = np.float32(10.0) ** RANDOM.uniform(-8, 4, size=(n_blocks, 1)).astype(np.float32)
    rows = RANDOM.standard_normal((n_blocks, block_len)).astype(np.float32) * scales
    rows[0] = 0
    rows[1, block_len // 2] = 3e4
    rows[2] = np.abs(rows[2])
    rows[3] = -np.abs(rows[3])
    rows[4] = 1
    return rows


def raw_blocks(name: str, n_blocks: int, block_bytes: int) -> np.ndarray:
    """Random blocks with each half-precision field set from HALVES."""
    blocks = RANDOM.integers(0, 256, size=(n_blocks, block_bytes), dtype=np.uint8)
    for i, offset in enumerate(HALF_FIELDS.get(name, [])):
        # A different stride for each field pairs different values.
        fields = HALVES[(np.arange(n_blocks) * (2 * i + 1) + 5 * i) % len(HALVES)]
        blocks[:, offset:offset + 2] = fields.view(np.uint8).reshape(n_blocks, 2)
    return blocks


def floats(name: str) -> np.ndarray:
    """Values of a type whose blocks are single numbers: no NaN, since its bits are not specified."""
    if name == "F32":
        bits = RANDOM.integers(0, 1 << 32, size=512, dtype=np.uint32)
        special = np.array([0, 1 << 31, 1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x7F800000, 0xFF800000])
        bits[:8] = special
        return bits[~np.isnan(bits.view(np.float32))].view(np.uint8)
    bits = RANDOM.integers(0, 1 << 16, size=1024, dtype=np.uint16)
    bits[:len(HALVES)] = HALVES
    bits[len(HALVES):len(HALVES) + 2] = [0x7C00, 0xFC00] if name == "F16" else [0x7F80, 0xFF80]
    wide = bits.view(np.float16).astype(np.float32) if name == "F16" else (
        bits.astype(np.uint32) << 16).view(np.float32)
    return bits[~np.isnan(wide)].view(np.uint8)


def blocks_of(name: str) -> np.ndarray:
    if name in ("F32", "F16", "BF16"):
        return floats(name)
    block_len, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    if name.endswith("_K"):
        return raw_blocks(name, 16, block_bytes).reshape(-1)
    quantized = quantize(numbers(24, block_len), GGMLQuantizationType[name])
    return np.concatenate([quantized.reshape(-1), raw_blocks(name, 32, block_bytes).reshape(-1)])


for name in ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "MXFP4"]:
    blocks = np.ascontiguousarray(blocks_of(name))
    decoded = dequantize(blocks, GGMLQuantizationType[name]).astype("<f4")
    (FOLDER / f"{name}.bin").write_bytes(blocks.tobytes())
    (FOLDER / f"{name}.f32").write_bytes(decoded.tobytes())
    print(f"{name}: {blocks.nbytes} bytes, {decoded.size} elements, {np.isnan(decoded).sum()} NaN")
