"""The tables of results as the paper prints them (arXiv 2106.09685 v2): scores, counts, latencies.

A table is text: a line of column names, then its rows, with | between the entries. An entry may
carry its spread (`90.6±.2`). A method marked * is quoted by the paper from earlier work; one marked
† was trained in the setup of the adapters' authors. Tables 9 to 12 and 17 hold settings and are in
`settings.py`; table 8 (few-shot learning) has no counterpart in this code.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Printed(NamedTuple):
  """A table: a caption that says what its numbers are, and its rows by the names of the columns."""

  caption: str
  rows: tuple[dict[str, str], ...]


def value(entry: str) -> float:
  """The number that an entry begins with: `90.6±.2` -> 90.6, `1482.0±1.0 (+2.2%)` -> 1482.0.

  Raises:
    ValueError: if the entry does not begin with a number.
  """
  found = re.match(r'-?\d*\.?\d+', entry)
  if not found:
    raise ValueError(f'expected an entry that begins with a number, as 90.6±.2, found {entry!r}')
  return float(found[0])


def places(entry: str) -> int:
  """The digits after the point of an entry's number: `8.85±.02` -> 2."""
  found = re.match(r'-?\d*\.(\d+)', entry)
  return len(found[1]) if found else 0


def spread(entry: str) -> float:
  """The number after an entry's ±; 0 if it has none."""
  found = re.search(r'±(\d*\.?\d+)', entry)
  return float(found[1]) if found else 0.0


def millions(entry: str) -> float:
  """A printed count in millions of parameters: `0.35M` -> 0.35, `175B` -> 175000."""
  scale = {'M': 1.0, 'B': 1000.0}[entry[-1]]
  return float(entry[:-1].replace(',', '')) * scale


def read(caption: str, text: str) -> Printed:
  """A table from its text.

  Raises:
    ValueError: if a row has more or fewer entries than there are columns.
  """
  head, *rows = ([entry.strip() for entry in line.split('|')] for line in text.strip().splitlines())
  return Printed(caption, tuple(dict(zip(head, row, strict=True)) for row in rows))


# The rows by the number of the table.
TABLES = {
  '1': read(
    'Forward pass of GPT-2 medium in ms, mean of 100 trials, Quadro RTX8000',
    """
    method | 32x512, adapters 0.5M | 16x256, adapters 11M | 1x128, adapters 11M
    full and LoRA, merged | 1449.4±0.8 | 338.0±0.6 | 19.8±2.7
    Adapter-L | 1482.0±1.0 (+2.2%) | 354.8±0.5 (+5.0%) | 23.9±2.1 (+20.7%)
    Adapter-H | 1492.2±1.0 (+3.0%) | 366.3±0.5 (+8.4%) | 25.8±2.2 (+30.3%)
    """,
  ),
  '2': read(
    'GLUE dev: MNLI overall accuracy, CoLA Matthews, STS-B Pearson, others accuracy',
    """
    model|method|params|MNLI|SST-2|MRPC|CoLA|QNLI|QQP|RTE|STS-B|Avg
    RoB-base|FT*|125.0M|87.6|94.8|90.2|63.6|92.8|91.9|78.7|91.2|86.4
    RoB-base|BitFit*|0.1M|84.7|93.7|92.7|62.0|91.8|84.0|81.5|90.8|85.2
    RoB-base|Adpt-D*|0.3M|87.1±.0|94.2±.1|88.5±1.1|60.8±.4|93.1±.1|90.2±.0|71.5±2.7|89.7±.3|84.4
    RoB-base|Adpt-D*|0.9M|87.3±.1|94.7±.3|88.4±.1|62.6±.9|93.0±.2|90.6±.0|75.9±2.2|90.3±.1|85.4
    RoB-base|LoRA|0.3M|87.5±.3|95.1±.2|89.7±.7|63.4±1.2|93.3±.3|90.8±.1|86.6±.7|91.5±.2|87.2
    RoB-large|FT*|355.0M|90.2|96.4|90.9|68.0|94.7|92.2|86.6|92.4|88.9
    RoB-large|LoRA|0.8M|90.6±.2|96.2±.5|90.9±1.2|68.2±1.9|94.9±.3|91.6±.1|87.4±2.5|92.6±.2|89.0
    RoB-large|Adpt-P†|3.0M|90.2±.3|96.1±.3|90.2±.7|68.3±1.0|94.8±.2|91.9±.1|83.8±2.9|92.1±.7|88.4
    RoB-large|Adpt-P†|0.8M|90.5±.3|96.6±.2|89.7±1.2|67.8±2.5|94.8±.3|91.7±.2|80.1±2.9|91.9±.4|87.9
    RoB-large|Adpt-H†|6.0M|89.9±.5|96.2±.3|88.7±2.9|66.5±4.4|94.7±.2|92.1±.1|83.4±1.1|91.0±1.7|87.8
    RoB-large|Adpt-H†|0.8M|90.3±.3|96.3±.5|87.7±1.7|66.3±2.0|94.7±.2|91.5±.1|72.9±2.9|91.5±.5|86.4
    RoB-large|LoRA†|0.8M|90.6±.2|96.2±.5|90.2±1.0|68.2±1.9|94.8±.3|91.6±.2|85.2±1.1|92.3±.5|88.6
    DeB-XXL|FT*|1500.0M|91.8|97.2|92.0|72.0|96.0|92.7|93.9|92.9|91.1
    DeB-XXL|LoRA|4.7M|91.9±.2|96.9±.2|92.6±.6|72.4±1.1|96.0±.1|92.9±.1|94.9±.4|93.0±.2|91.3
    """,
  ),
  '3': read(
    'E2E NLG Challenge, test; METEOR and ROUGE-L times 100',
    """
    model | method | params | BLEU | NIST | MET | ROUGE-L | CIDEr
    GPT-2 M | FT* | 354.92M | 68.2 | 8.62 | 46.2 | 71.0 | 2.47
    GPT-2 M | Adapter-L* | 0.37M | 66.3 | 8.41 | 45.0 | 69.8 | 2.40
    GPT-2 M | Adapter-L* | 11.09M | 68.9 | 8.71 | 46.1 | 71.3 | 2.47
    GPT-2 M | Adapter-H | 11.09M | 67.3±.6 | 8.50±.07 | 46.0±.2 | 70.7±.2 | 2.44±.01
    GPT-2 M | FT-Top2* | 25.19M | 68.1 | 8.59 | 46.0 | 70.8 | 2.41
    GPT-2 M | PreLayer* | 0.35M | 69.7 | 8.81 | 46.1 | 71.4 | 2.49
    GPT-2 M | LoRA | 0.35M | 70.4±.1 | 8.85±.02 | 46.8±.2 | 71.8±.1 | 2.53±.02
    GPT-2 L | FT* | 774.03M | 68.5 | 8.78 | 46.0 | 69.9 | 2.45
    GPT-2 L | Adapter-L | 0.88M | 69.1±.1 | 8.68±.03 | 46.3±.0 | 71.4±.2 | 2.49±.0
    GPT-2 L | Adapter-L | 23.00M | 68.9±.3 | 8.70±.04 | 46.1±.1 | 71.3±.2 | 2.45±.02
    GPT-2 L | PreLayer* | 0.77M | 70.3 | 8.85 | 46.2 | 71.7 | 2.47
    GPT-2 L | LoRA | 0.77M | 70.4±.1 | 8.89±.02 | 46.8±.2 | 72.0±.2 | 2.47±.02
    """,
  ),
  '4': read(
    'GPT-3 175B: WikiSQL ±0.5, MNLI matched ±0.1, SAMSum R1/R2/RL ±0.2/0.2/0.1',
    """
    method | params | WikiSQL | MNLI-m | SAMSum
    FT | 175,255.8M | 73.8 | 89.5 | 52.0/28.0/44.5
    BitFit | 14.2M | 71.3 | 91.0 | 51.3/27.4/43.5
    PreEmbed | 3.2M | 63.1 | 88.6 | 48.3/24.2/40.5
    PreLayer | 20.2M | 70.1 | 89.5 | 50.8/27.3/43.5
    Adapter-H | 7.1M | 71.9 | 89.8 | 53.0/28.9/44.8
    Adapter-H | 40.1M | 73.2 | 91.5 | 53.2/29.0/45.1
    LoRA | 4.7M | 73.4 | 91.7 | 53.8/29.8/45.9
    LoRA | 37.7M | 74.0 | 91.6 | 53.4/29.2/45.1
    """,
  ),
  '5': read(
    'GPT-3 175B, a budget of 18M parameters: accuracy, WikiSQL ±0.5, MNLI ±0.1',
    """
    task | Wq | Wk | Wv | Wo | Wq,Wk | Wq,Wv | Wq,Wk,Wv,Wo
    rank r | 8 | 8 | 8 | 8 | 4 | 4 | 2
    WikiSQL | 70.4 | 70.0 | 73.0 | 73.2 | 71.4 | 73.7 | 73.7
    MultiNLI | 91.0 | 90.8 | 91.0 | 91.3 | 91.3 | 91.3 | 91.7
    """,
  ),
  '6': read(
    'GPT-3 175B: validation accuracy',
    """
    task | weights | r=1 | r=2 | r=4 | r=8 | r=64
    WikiSQL | Wq | 68.8 | 69.6 | 70.5 | 70.4 | 70.0
    WikiSQL | Wq,Wv | 73.4 | 73.3 | 73.7 | 73.8 | 73.5
    WikiSQL | Wq,Wk,Wv,Wo | 74.1 | 73.7 | 74.0 | 74.0 | 73.9
    MultiNLI | Wq | 90.7 | 90.9 | 91.1 | 90.7 | 90.7
    MultiNLI | Wq,Wv | 91.3 | 91.4 | 91.3 | 91.6 | 91.4
    MultiNLI | Wq,Wk,Wv,Wo | 91.2 | 91.7 | 91.7 | 91.5 | 91.4
    """,
  ),
  '7': read(
    'GPT-3 175B, query of layer 48: ‖UᵀWVᵀ‖ by the top r directions of each; ‖W‖ = 61.95',
    """
    r | ΔW | W | random | ‖ΔW‖ | amplification
    4 | 0.32 | 21.67 | 0.02 | 6.91 | 21.5
    64 | 1.90 | 37.71 | 0.33 | 3.57 | 2
    """,
  ),
  '13': read(
    'DART, test; variance of MET and TER below 0.01',
    """
    model | method | params | BLEU | MET | TER
    GPT-2 M | FT | 354M | 46.2 | 0.39 | 0.46
    GPT-2 M | Adapter-L | 0.37M | 42.4 | 0.36 | 0.48
    GPT-2 M | Adapter-L | 11M | 45.2 | 0.38 | 0.46
    GPT-2 M | FT-Top2 | 24M | 41.0 | 0.34 | 0.56
    GPT-2 M | PrefLayer | 0.35M | 46.4 | 0.38 | 0.46
    GPT-2 M | LoRA | 0.35M | 47.1±.2 | 0.39 | 0.46
    GPT-2 L | FT | 774M | 47.0 | 0.39 | 0.46
    GPT-2 L | Adapter-L | 0.88M | 45.7±.1 | 0.38 | 0.46
    GPT-2 L | Adapter-L | 23M | 47.1±.1 | 0.39 | 0.45
    GPT-2 L | PrefLayer | 0.77M | 46.7 | 0.38 | 0.45
    GPT-2 L | LoRA | 0.77M | 47.5±.1 | 0.39 | 0.45
    """,
  ),
  '14': read(
    'WebNLG, test; U unseen, S seen, A all categories',
    """
    model | method | params | BLEU U|BLEU S|BLEU A|MET U|MET S|MET A|TER U|TER S|TER A
    GPT-2 M | FT | 354M | 27.7 | 64.2 | 46.5 | .30 | .45 | .38 | .76 | .33 | .53
    GPT-2 M | Adapter-L | 0.37M | 45.1 | 54.5 | 50.2 | .36 | .39 | .38 | .46 | .40 | .43
    GPT-2 M | Adapter-L | 11M | 48.3 | 60.4 | 54.9 | .38 | .43 | .41 | .45 | .35 | .39
    GPT-2 M | FT-Top2 | 24M | 18.9 | 53.6 | 36.0 | .23 | .38 | .31 | .99 | .49 | .72
    GPT-2 M | Prefix | 0.35M | 45.6 | 62.9 | 55.1 | .38 | .44 | .41 | .49 | .35 | .40
    GPT-2 M | LoRA | 0.35M | 46.7±.4 | 62.1±.2 | 55.3±.2 | .38 | .44 | .41 | .46 | .33 | .39
    GPT-2 L | FT | 774M | 43.1 | 65.3 | 55.5 | .38 | .46 | .42 | .53 | .33 | .42
    GPT-2 L | Adapter-L | 0.88M | 49.8±.0 | 61.1±.0 | 56.0±.0 | .38 | .43 | .41 | .44 | .35 | .39
    GPT-2 L | Adapter-L | 23M | 49.2±.1 | 64.7±.2 | 57.7±.1 | .39 | .46 | .43 | .46 | .33 | .39
    GPT-2 L | Prefix | 0.77M | 47.7 | 63.4 | 56.3 | .39 | .45 | .42 | .48 | .34 | .40
    GPT-2 L | LoRA | 0.77M | 48.4±.3 | 64.0±.3 | 57.0±.1 | .39 | .45 | .42 | .45 | .32 | .38
    """,
  ),
  '15': read(
    'GPT-3 175B: validation accuracy',
    """
    method | setting | params | WikiSQL | MNLI-m
    FT | - | 175B | 73.8 | 89.5
    PrefixEmbed | lp=32 li=8 | 0.4M | 55.9 | 84.9
    PrefixEmbed | lp=64 li=8 | 0.9M | 58.7 | 88.1
    PrefixEmbed | lp=128 li=8 | 1.7M | 60.6 | 88.0
    PrefixEmbed | lp=256 li=8 | 3.2M | 63.1 | 88.6
    PrefixEmbed | lp=512 li=8 | 6.4M | 55.9 | 85.8
    PrefixLayer | lp=2 li=2 | 5.1M | 68.5 | 89.2
    PrefixLayer | lp=8 li=0 | 10.1M | 69.8 | 88.2
    PrefixLayer | lp=8 li=8 | 20.2M | 70.1 | 89.5
    PrefixLayer | lp=32 li=4 | 44.1M | 66.4 | 89.6
    PrefixLayer | lp=64 li=0 | 76.1M | 64.9 | 87.9
    Adapter-H | r=1 | 7.1M | 71.9 | 89.8
    Adapter-H | r=4 | 21.2M | 73.2 | 91.0
    Adapter-H | r=8 | 40.1M | 73.2 | 91.5
    Adapter-H | r=16 | 77.9M | 73.2 | 91.5
    Adapter-H | r=64 | 304.4M | 72.6 | 91.5
    LoRA | rv=2 | 4.7M | 73.4 | 91.7
    LoRA | rq=rv=1 | 4.7M | 73.4 | 91.3
    LoRA | rq=rv=2 | 9.4M | 73.3 | 91.4
    LoRA | rq=rk=rv=ro=1 | 9.4M | 74.1 | 91.2
    LoRA | rq=rv=4 | 18.8M | 73.7 | 91.3
    LoRA | rq=rk=rv=ro=2 | 18.8M | 73.7 | 91.7
    LoRA | rq=rv=8 | 37.7M | 73.8 | 91.6
    LoRA | rq=rk=rv=ro=4 | 37.7M | 74.0 | 91.7
    LoRA | rq=rv=64 | 301.9M | 73.6 | 91.4
    LoRA | rq=rk=rv=ro=64 | 603.8M | 73.9 | 91.4
    LoRA+PE | rq=rv=8 lp=8 li=4 | 37.8M | 75.0 | 91.4
    LoRA+PE | rq=rv=32 lp=8 li=4 | 151.1M | 75.9 | 91.1
    LoRA+PE | rq=rv=64 lp=8 li=4 | 302.1M | 76.2 | 91.3
    LoRA+PL | rq=rv=8 lp=8 li=4 | 52.8M | 72.9 | 90.2
    """,
  ),
  '16': read(
    'GPT-3 175B: MNLI matched, by the number of training examples; about ±0.3 over seeds',
    """
    method | 100 | 1k | 10k | 392K
    FT | 60.2 | 85.8 | 88.9 | 89.5
    PrefixEmbed | 37.6 | 75.2 | 79.5 | 88.6
    PrefixLayer | 48.3 | 82.5 | 85.9 | 89.6
    LoRA | 63.8 | 85.6 | 89.2 | 91.7
    """,
  ),
  '18': read(
    'GPT-2 medium on E2E after 26,000 steps: validation loss, scores of the test set',
    """
    r | val_loss | BLEU | NIST | METEOR | ROUGE-L | CIDEr
    1 | 1.23 | 68.72 | 8.7215 | 0.4565 | 0.7052 | 2.4329
    2 | 1.21 | 69.17 | 8.7413 | 0.4590 | 0.7052 | 2.4639
    4 | 1.18 | 70.38 | 8.8439 | 0.4689 | 0.7186 | 2.5349
    8 | 1.17 | 69.57 | 8.7457 | 0.4636 | 0.7196 | 2.5196
    16 | 1.16 | 69.61 | 8.7483 | 0.4629 | 0.7177 | 2.4985
    32 | 1.16 | 69.33 | 8.7736 | 0.4642 | 0.7105 | 2.5255
    64 | 1.16 | 69.24 | 8.7174 | 0.4651 | 0.7180 | 2.5070
    128 | 1.16 | 68.73 | 8.6718 | 0.4628 | 0.7127 | 2.5030
    256 | 1.16 | 68.92 | 8.6982 | 0.4629 | 0.7128 | 2.5012
    512 | 1.16 | 68.78 | 8.6857 | 0.4637 | 0.7128 | 2.5025
    1024 | 1.17 | 69.37 | 8.7495 | 0.4659 | 0.7149 | 2.5090
    """,
  ),
}
