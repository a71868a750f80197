"""What papers after LoRA's print on the tasks of its tables, and PEFT's comparison of methods.

PiSSA (Meng et al., 2024), VeRA (Kopiczko et al., 2023) and QLoRA (Dettmers et al., 2023) trained
LoRA and others anew, with other models or settings than the paper: their tables stand beside the
paper's, and a row of one is not to be compared with a row of another.
"""

from __future__ import annotations

from lora_jax.paper.printed import Printed, read

# By the number of the paper's table whose tasks they are on.
TABLES: dict[str, tuple[Printed, ...]] = {
  '2': (
    read(
      'DeBERTa-v3-base, rank 8, from PiSSA (arXiv 2404.02948)',
      """
method          |params|MNLI |SST-2|MRPC |CoLA |QNLI |QQP  |RTE  |STS-B|Avg
full            |184M  |89.90|95.63|89.46|69.19|94.03|92.40|83.75|91.60|88.25
BitFit          |0.1M  |89.37|94.84|87.75|66.96|92.24|88.41|78.70|91.35|86.20
Adapter-H       |1.22M |90.13|95.53|89.95|68.64|94.11|91.91|84.48|91.48|88.28
Adapter-P       |1.18M |90.33|95.61|89.46|68.77|94.29|92.04|85.20|91.54|88.41
LoRA, Gaussian  |1.33M |90.65|94.95|89.95|69.82|93.87|91.99|85.20|91.60|88.50
LoRA, Kaiming   |1.33M |89.96|95.64|90.28|70.69|93.84|92.03|84.84|91.68|88.62
DoRA            |1.27M |90.29|95.79|90.93|70.85|94.10|92.07|86.04|91.79|88.98
AdaLoRA         |1.27M |90.76|96.10|90.69|71.45|94.55|92.23|88.09|91.84|89.46
PiSSA           |1.33M |90.37|96.22|91.50|73.12|94.43|92.33|88.69|92.00|89.83
""",
    ),
    read(
      'RoBERTa-base, from VeRA (arXiv 2310.11454)',
      """
method|params|SST-2|MRPC|CoLA|QNLI|RTE |STS-B|Avg
full  |125M  |94.8 |90.2|63.6|92.8|78.7|91.2 |85.2
VeRA  |0.043M|94.6 |89.5|65.6|91.8|78.7|90.7 |85.2
""",
    ),
    read(
      'RoBERTa-large, mean of the tasks of GLUE by the dtype of the base, from QLoRA (arXiv '
      '2305.14314, table 3)',
      """
full, bfloat16|LoRA, bfloat16|QLoRA, int8|QLoRA, FP4
88.6          |88.8          |88.8       |88.6
""",
    ),
  ),
  '3': (
    read(
      'E2E, from VeRA (arXiv 2310.11454), which prints the same LoRA of GPT-2 medium as above',
      """
model  |method|params|BLEU|NIST|MET |ROUGE-L|CIDEr
GPT-2 M|VeRA  |0.098M|70.1|8.81|46.6|71.5   |2.50
GPT-2 L|LoRA  |0.77M |70.1|8.80|46.7|71.9   |2.52
GPT-2 L|VeRA  |0.17M |70.3|8.85|46.9|71.6   |2.54
""",
    ),
  ),
}

# Of the methods of configs/rates.py and others: accuracy of GSM8K's test set, seconds of training,
# the most memory in GB, trained parameters.
PEFT = read(
  "PEFT's method comparison: Llama-3.2-3B trained on MetaMathQA and tested on GSM8K, 5000 steps of "
  'batch 4 in bfloat16 on one L40S, one seed (github.com/huggingface/peft, '
  'method_comparison/MetaMathQA/results, 2026)',
  """
method          |accuracy|seconds|GB  |params
full            |.472    |2147   |36.2|3.2B
LoRA, r=32      |.478    |942    |20.8|9.2M
LoRA, r=64      |.474    |967    |21.0|18.4M
rsLoRA, r=64    |.513    |966    |21.0|18.4M
LoRA on MLP, r=10|.494   |1050   |23.0|9.5M
HiRA, r=32      |.513    |1286   |22.0|9.2M
SHiRA           |.510    |1003   |20.2|9.2M
DoRA, r=32      |.469    |1191   |22.8|9.3M
LoRA-FA, r=32   |.404    |1159   |20.7|3.7M
MiSS            |.487    |897    |18.9|7.3M
VeRA            |.354    |1011   |20.1|0.13M
AdaLoRA         |.373    |1169   |21.2|18.4M
BOFT            |.343    |6926   |23.0|0.8M
""",
)
