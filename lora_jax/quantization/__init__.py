"""Kernels of a frozen base in 4 or 8 bits, and products with them (QLoRA, arXiv 2305.14314).

A quantized kernel keeps its place in the parameter tree: `frozen` holds a `Kernel` of codes and
scales where a float kernel would be.
"""

from lora_jax.quantization.base import declare as declare
from lora_jax.quantization.base import declared_as as declared_as
from lora_jax.quantization.base import encode as encode
from lora_jax.quantization.base import exact as exact
from lora_jax.quantization.base import is_quantizable as is_quantizable
from lora_jax.quantization.base import kernels as kernels
from lora_jax.quantization.base import make as make
from lora_jax.quantization.base import quantize as quantize
from lora_jax.quantization.dense import needed as needed
from lora_jax.quantization.dense import product as product
from lora_jax.quantization.formats import ENCODERS as ENCODERS
from lora_jax.quantization.formats import Arrays as Arrays
from lora_jax.quantization.formats import of_file as of_file
from lora_jax.quantization.kernel import Kernel as Kernel
from lora_jax.quantization.kernel import Leaf as Leaf
