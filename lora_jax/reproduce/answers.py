"""The tables and figures of the paper that hold no runs, and the command or page of each."""

from __future__ import annotations

from lora_jax.errors import nearest

TABLES = ('1', '2', '3', '4', '5', '6', '7', '13', '14', '15', '16', '18')
FIGURES = ('2', '3', '4', '5', '6', '7', '8')
ANSWERS = {
  'table 8': 'Table 8 (few-shot GPT-3 beside fine-tuning) needs GPT-3 and has no counterpart here.',
  'table 9': 'Table 9 holds the settings of RoBERTa: lora_jax/paper/settings.py, which '
  'configs/glue.py reads; its runs are those of --table=2.',
  'table 10': 'Table 10 holds the settings of DeBERTa-XXL: lora_jax/paper/settings.py, which '
  'configs/glue.py:model=deberta-v2-xxlarge reads; its runs are rows of --table=2.',
  'table 11': 'Table 11 holds the settings of GPT-2: lora_jax/paper/settings.py; its runs are '
  'those of --table=3, 13 and 14.',
  'table 12': 'Table 12 holds the settings of GPT-3: lora_jax/paper/settings.py, which '
  'configs/gpt3.py reads; its runs are those of --table=4 and 15.',
  'table 17': 'Table 17 holds the settings of few examples: lora_jax/paper/settings.py; its runs '
  'are those of --table=16.',
  'figure 1': 'Figure 1 draws the method itself: lora_jax/methods/lora.py.',
}


def check(kind: str, number: str) -> str:
  """The answer about a table or figure without runs; '' for one that has runs.

  Raises:
    ValueError: for a number that the paper does not have, with those that it has.
  """
  runs = TABLES if kind == 'table' else FIGURES
  if number in runs:
    return ''
  others = [name.split()[1] for name in ANSWERS if name.startswith(kind)]
  if answer := ANSWERS.get(f'{kind} {number}'):
    return answer
  known = sorted((*runs, *others), key=int)
  raise ValueError(f'--{kind}={number}: the paper has no such {kind}. {nearest(number, known)}')
