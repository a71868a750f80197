"""Scores of the paper's settings that others published, beside the tables of `printed`.

LoRA of GPT-2 medium on E2E: VB-LoRA (Li et al., 2024, arXiv 2405.15179), table 2. Three users of
the LoRA authors' code report 68.65 to 68.87 BLEU (microsoft/LoRA, issue 165).
"""

from __future__ import annotations

from lora_jax.paper.printed import Printed

TABLES = {
  '3': Printed(
    "A second published value of the paper's row of LoRA, from VB-LoRA (arXiv 2405.15179, table "
    "2); three users of the authors' code report 68.65 to 68.87 BLEU "
    '(github.com/microsoft/LoRA/issues/165)',
    (
      {
        'model': 'GPT-2 M',
        'method': 'LoRA',
        'params': '0.35M',
        'BLEU': '68.9',
        'NIST': '8.69',
        'MET': '46.4',
        'ROUGE-L': '71.3',
        'CIDEr': '2.51',
      },
    ),
  )
}
