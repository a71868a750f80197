"""The fields of a config: the default, the allowed values and the meaning of each, declared once.

`configs/_base.py` makes its sections of this table, and `check` refuses what it does not allow.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from lora_jax.errors import nearest
from lora_jax.paper import translation

if TYPE_CHECKING:
  from ml_collections import ConfigDict

NOUNS = {bool: 'True or False', int: 'a whole number', float: 'a finite number', str: 'a text'}


class Field(NamedTuple):
  """What a field of a config may hold.

  Attributes:
    default: its value where no config changes it.
    meaning: what it does, as a sentence.
    kind: the type of its value: bool, int, float or str.
    within: of a number the interval that it lies in, as '[0, 1)'; '' is any.
    choices: of a text the values that it may have; () is any.
    sentinel: a number outside the interval that is allowed too.
    can_be_none: whether None is allowed too.
    form: 'one' value; a 'list' of them; one or a list of regular expressions ('patterns'); one
      number, or a mapping to numbers from regular expressions ('by pattern').
  """

  default: object
  meaning: str
  kind: type
  within: str = ''
  choices: tuple[str, ...] = ()
  sentinel: int | None = None
  can_be_none: bool = False
  form: str = 'one'

  @property
  def expected(self) -> str:
    """What the field may hold, in words: 'a finite number in [0, 1)'."""
    if self.form == 'patterns':
      return 'a regular expression, or a list of them'
    if self.form == 'list':
      return f'a list, each of its items {NOUNS[self.kind]}'
    words = f'{NOUNS[self.kind]} in {self.within}' if self.within else NOUNS[self.kind]
    if self.choices:
      words = f'one of {", ".join(self.choices)}'
    words += '' if self.sentinel is None else f', or {self.sentinel}'
    words += ', or None' if self.can_be_none else ''
    return words + (', or one for each pattern' if self.form == 'by pattern' else '')

  def allows(self, value: object) -> bool:
    """Whether the field may hold a value."""
    if value is None:
      return self.can_be_none
    if self.form == 'by pattern' and _is_section(value):
      of_patterns = all(_is_pattern(key) and self._allows_one(x) for key, x in value.items())
      return of_patterns and bool(len(value))
    if self.form in ('list', 'patterns') and isinstance(value, list | tuple):
      return all(map(self._allows_one, value))
    return self.form != 'list' and self._allows_one(value)

  def _allows_one(self, value: object) -> bool:
    if self.kind is str:
      fits = isinstance(value, str) and (not self.choices or value in self.choices)
      return fits and (self.form != 'patterns' or _is_pattern(value))
    if self.kind is bool or isinstance(value, bool):
      return self.kind is bool and isinstance(value, bool)
    if isinstance(value, numbers.Integral):
      return int(value) == self.sentinel or _lies_within(int(value), self.within)
    if self.kind is float and isinstance(value, numbers.Real):
      return math.isfinite(value) and _lies_within(float(value), self.within)
    return False


def _is_section(value: object) -> TypeGuard[Mapping[str, object] | ConfigDict]:
  # A ConfigDict is no Mapping, and a table of fields needs no package to be read.
  return hasattr(value, 'items')


def _is_pattern(value: object) -> bool:
  try:
    return isinstance(value, str) and bool(re.compile(value))
  except re.error:
    return False


def _lies_within(value: float, interval: str) -> bool:
  if not interval:
    return True
  low, high = map(float, interval[1:-1].split(','))
  above = value >= low if interval[0] == '[' else value > low
  return above and (value <= high if interval[-1] == ']' else value < high)


def _whole(default: int, within: str, meaning: str, sentinel: int | None = None) -> Field:
  return Field(default, meaning, int, within, sentinel=sentinel)


def _number(default: float, within: str, meaning: str) -> Field:
  return Field(default, meaning, float, within)


def _rate(meaning: str) -> Field:
  return Field(None, meaning, float, '[0, 1)', can_be_none=True)


def _choice(choices: str, meaning: str) -> Field:
  """A field whose default is the first of the choices, which spaces separate."""
  return Field(choices.split()[0], meaning, str, choices=tuple(choices.split()))


def _text(default: str, meaning: str) -> Field:
  return Field(default, meaning, str)


def _switch(meaning: str) -> Field:
  return Field(False, meaning, bool)


def _texts(default: tuple[str, ...], form: str, meaning: str) -> Field:
  return Field(default, meaning, str, form=form)


# A smaller eps is zero in float32, where an update of a zero gradient is 0 / eps.
# fmt: off
FIELDS: dict[str, Field] = {
  'experiment': _text('', 'Name of the config file.'),
  'paper_table': _text('', "Table of the paper that has this run's row, as 'table 2'; '' if none."),
  'task': _text('', 'Name of the task.'),
  'preset': _text('paper', 'Name of the settings, as the config file lists them.'),
  'seed': _whole(0, '[0, 4294967295]', 'Seed of parameters, dropout, order and choice of data.'),
  'init_adapter': _text('', "Run directory or adapter (this project's, PEFT's, loralib's) whose "
                            'factors the run starts from, and whose head, if it fits.'),

  'model.name': _text('', "Preset, folder in Hugging Face layout, run directory, or 'fresh'."),
  'model.dtype': _choice('float32 bfloat16 float16', 'Dtype of the computation.'),
  'model.param_dtype': _choice('float32 bfloat16 float16', 'Dtype of frozen weights.'),
  'model.quantize': _choice('none int8 nf4 file', "Frozen kernels of the layers: as they are, in 8 "
                                                  'or 4 bits, or in the codes of a GGUF file.'),
  'model.head': _choice('fresh keep', "The base's classification head: another one is drawn, or it "
                                     'is kept, its classes compared by name.'),
  'model.scan': Field(None, 'Whether the layers are one scanned layer, which compiles faster and '
                            'takes longer a step; None chooses what ends soonest.', bool,
                      can_be_none=True),
  'model.remat': _choice('none full dots', 'What the backward pass computes again.'),
  'model.attention': _choice('auto xla cudnn pallas', 'Attention: cudnn on NVIDIA GPUs, pallas on '
                                                      'TPUs.'),
  'model.hidden_dropout': _rate("Dropout of hidden states; None is the checkpoint's."),
  'model.attention_dropout': _rate("Dropout of attention; None is the checkpoint's."),
  'model.classifier_dropout': _rate("Dropout before the classifier; None is the checkpoint's."),

  'data.source': _choice('files tfds', 'Where examples are read from.'),
  'data.dir': _text('', 'Folder of the data.'),
  'data.tokenizer': _text('', "Folder or archive of the tokenizer; '' is the model's own."),
  'data.max_length': _whole(512, '[1, inf)', 'Most tokens of an example; longer ones are cut.'),
  'data.batching': _choice('pack pad pad_max', 'How examples are laid out in rows.'),
  'data.row_length': _whole(0, '[0, inf)', 'Tokens of a packed row; 0 chooses.'),
  'data.max_shapes': _whole(7, '[1, inf)', 'Most shapes of batches; as many are used as let the '
                                           'run end soonest.'),
  'data.limit': _whole(0, '[0, inf)', 'Training examples, after a seeded shuffle; 0 is all.'),

  'train.batch_size': _whole(32, '[1, inf)', 'Examples of a batch over all devices.'),
  'train.eval_batch_size': _whole(64, '[1, inf)', 'Examples of a batch of an evaluation.'),
  'train.epochs': _whole(1, '[1, inf)', 'Passes over the training examples.'),
  'train.accumulate': _whole(1, '[1, inf)', 'Microbatches of a batch.'),
  'train.steps_per_call': _whole(1, '[1, inf)', 'Updates of a dispatch, at most.'),
  'train.log_every': _whole(10, '[0, inf)', 'Steps between points of the training curve, of which '
                                            'there are 10,000 at most; 0 is no curve.'),
  'train.label_smoothing': _number(0.0, '[0, 1)', "Share of the target's probability that goes to "
                                                  'all classes or tokens.'),

  'optim.lr': _number(1e-3, '[0, inf)', 'Largest learning rate; 0 leaves the base untuned.'),
  'optim.schedule': _choice('linear constant', 'Learning rate after the warm-up.'),
  'optim.warmup_ratio': _number(0.0, '[0, 1]', 'Share of the updates that is warm-up.'),
  'optim.warmup_steps': _whole(0, '[0, inf)', 'Updates of warm-up; takes precedence over the ratio '
                                              'when nonzero.'),
  'optim.weight_decay': _number(0.0, '[0, inf)', "AdamW's, decoupled; 0 is off."),
  'optim.lora_plus': _number(1.0, '(0, inf)', "Factor on the rate of LoRA's factor that starts at "
                                              'zero (LoRA+); 1 is off.'),
  'optim.clip': _number(0.0, '[0, inf)', 'Largest global norm of the gradient; 0 is off.'),
  'optim.beta1': _number(0.9, '[0, 1)', 'Decay of the first moment.'),
  'optim.beta2': _number(0.999, '[0, 1)', 'Decay of the second moment.'),
  'optim.eps': _number(1e-8, '[1e-30, inf)', 'Added to the root of the second moment, in float32.'),

  'decode.strategy': _choice('beam greedy sample', 'How a token is chosen (language models only).'),
  'decode.beams': _whole(10, '[1, inf)', 'Width of the beam search.'),
  'decode.length_penalty': _number(0.9, '(-inf, inf)', "A beam's log-probability is divided by its "
                                                       'length to this power.'),
  'decode.no_repeat_ngram': _whole(4, '[0, inf)', 'No sequence of this many tokens is generated '
                                                  'twice; 0 is off.'),
  'decode.max_tokens': _whole(64, '[1, inf)', 'Most generated tokens of a text.'),
  'decode.limit': _choice('data model', 'What a context and its text have room in: data.max_length '
                          "as in the paper's code, or the model's positions. The front of a longer "
                          'context is cut off.'),
  'decode.batch_size': _whole(32, '[1, inf)', 'Contexts that are decoded together.'),
  'decode.temperature': _number(1.0, '(0, inf)', 'Logits are divided by it (sample only).'),
  'decode.top_k': _whole(0, '[0, inf)', 'Most candidates of a token; 0 is all (sample only).'),
  'decode.top_p': _number(1.0, '(0, 1]', 'Probability of all candidates together (sample only).'),
  'decode.stop': _texts(('<|endoftext|>', '\n\n'), 'list',
                        'Each ends a text if it is a token of the vocabulary.'),
  'decode.contexts': _whole(0, '[0, inf)', 'Contexts of the first held-out split that every '
                                           'evaluation decodes.'),
  'decode.final': _text('', "Split that the best checkpoint decodes at the end; '' is none."),

  'eval.every_epochs': _whole(1, '[1, inf)', 'Epochs between evaluations.'),
  'eval.every_steps': _whole(0, '[0, inf)', 'Steps between evaluations; takes precedence when '
                                            'nonzero.'),
  'eval.limit': _whole(0, '[0, inf)', 'Examples of each held-out split that training evaluates on, '
                                      'the same ones for every seed; 0 is all.'),
  'eval.general_text': _whole(0, '[0, inf)', 'Sequences of held-out WikiText-2 whose loss each '
                                             'evaluation measures, to see what is forgotten '
                                             '(language models only); 0 is off.'),
  'checkpoint.every_steps': _whole(0, '[0, inf)', 'Steps between checkpoints; 0 saves at the end '
                                                  'of each epoch.'),
  'checkpoint.keep': _whole(2, '[1, inf)', 'Latest checkpoints that are kept, beside the best.'),
  'mesh.data': _whole(-1, '[1, inf)', 'Devices that split the rows; -1 is the rest.', sentinel=-1),
  'mesh.fsdp': _whole(1, '[1, inf)', 'Devices that split the rows and each weight.'),
  'mesh.tensor': _whole(1, '[1, inf)', 'Devices that split the matrix products.'),
  'sweep.width': _whole(0, '[0, inf)', 'Most runs of a program; 0 chooses what ends soonest.'),
}

# The options of all methods; each method has some of them (`_base.OPTIONS`).
METHOD: dict[str, Field] = {
  'name': _text('lora', "Method, or several joined by '+'."),
  'rank': Field(8, 'Rank r of the factors.', int, '[1, inf)', form='by pattern'),
  'alpha': Field(8.0, 'The update is scaled by alpha / r.', float, '(0, inf)', form='by pattern'),
  'targets': _texts(translation.QUERY_VALUE, 'patterns', 'Paths of the modules that are adapted.'),
  'dropout': _number(0.0, '[0, 1)', 'Dropout on the input of the factors.'),
  'init': _choice('uniform normal pissa pissa_fast olora', "Start of the factors: one random, "
                                                            "uniform as loralib's, or parts of the "
                                                            'weight.'),
  'rslora': _switch('Whether the update is scaled by alpha / sqrt(r).'),
  'train_a': Field(True, 'Whether lora_a is trained; LoRA-FA keeps it as it is drawn.', bool),
  'dora': _switch("Whether the length of each column of an adapted weight is trained too (DoRA)."),
  'd_initial': _number(0.1, '(0, inf)', 'Start of the vector between the factors of VeRA.'),
  'projection_seed': _whole(0, '[0, 4294967295]', 'Seed of the random factors of VeRA.'),
  'bias': _choice('none adapted all', 'Which biases are trained as well.'),
  'train': _texts((), 'patterns', 'Paths of further parameters to train; the head always is.'),
  'layers': _whole(2, '[1, inf)', 'Last blocks that are trained.'),
  'bottleneck': _whole(16, '[1, inf)', 'Width of the middle of an adapter.'),
  'activation': _choice('relu silu gelu tanh', 'Nonlinearity in the middle of an adapter.'),
  'drop': _whole(0, '[0, inf)', 'Lowest layers that get no adapter.'),
  'prefix': _whole(24, '[0, inf)', 'Tokens before the input.'),
  'infix': _whole(8, '[0, inf)', 'Tokens after the input.'),
  'dimension': _whole(1000, '[1, inf)', 'Dimensions of the random subspace that all parameters '
                                        'move in.'),
  'variant': _choice('did said', 'Whether a factor on the update of each layer is trained too '
                                 '(said), counted as a dimension.'),
  'head': _choice('subspace trained', 'Whether the task head is moved in the subspace, too, or '
                                      'trained as it is.'),
  'subspace': _whole(0, '[0, 4294967295]', 'Seed of the random subspace.'),
}

# The files of a task of a user's own, and the names of their columns.
OWN: dict[str, Field] = {
  'data': _text('', 'Training file, .jsonl, .csv or .tsv; its columns tell the kind of the task.'),
  'dev': _text('', "File to evaluate on; '' cuts rows off the training file."),
  'test': _text('', "File of the split test; '' is none."),
  'dev_rows': _whole(0, '[0, inf)', 'Rows to cut off; 0 is a tenth of them, 1000 at most.'),
  'dev_seed': _whole(0, '[0, inf)', "Seed of that cut, apart from the run's own."),
  'text': _text('text', "Column of the text to classify or to judge; '' is none, as below."),
  'pair': _text('pair', 'Column of a second text, if there is one.'),
  'label': _text('label', 'Column of the class.'),
  'number': _text('number', 'Column of the number that a regression predicts.'),
  'prompt': _text('prompt', 'Column of what a text is generated from.'),
  'completion': _text('completion', 'Column of the text to generate.'),
  'messages': _text('messages', 'Column of a chat, a list of messages with role and content.'),
}

# The architecture of an untrained model; the defaults are those of the family's base size.
FRESH: dict[str, Field] = {
  'family': _choice('bert roberta deberta-v2 gpt2 llama mistral qwen2 qwen3', 'Architecture.'),
  'vocab_size': _whole(30522, '[1, inf)', 'Rows of the word embeddings.'),
  'hidden_size': _whole(768, '[1, inf)', 'Width, a multiple of the heads.'),
  'num_layers': _whole(12, '[1, inf)', 'Number of blocks.'),
  'num_heads': _whole(12, '[1, inf)', 'Heads of attention.'),
  'num_kv_heads': _whole(32, '[1, inf)', 'Heads of keys and values of a Llama.'),
  'head_width': _whole(128, '[2, inf)', 'Width of a head of a Llama, even.'),
  'rope_theta': _number(10000.0, '[1, inf)', 'Base of the wavelengths of rotary positions.'),
  'rope_factor': _number(1.0, '[1, inf)', "Llama 3.1's divisor of low frequencies; 1 is none."),
  'rope_low': _number(1.0, '[1, inf)', 'Wavelengths above rope_original / rope_low are divided.'),
  'rope_high': _number(4.0, '[1, inf)', 'Wavelengths below rope_original / rope_high are not.'),
  'rope_original': _whole(8192, '[1, inf)', 'Number of positions before the division.'),
  'biased': _switch("Whether a Llama's attention has biases; Qwen2's not in its output."),
  'normed': _switch("Whether a Llama's queries and keys are normalized."),
  'tied': _switch("Whether a Llama's output is its word embeddings."),
  'intermediate_size': _whole(3072, '[1, inf)', 'Width of the MLP.'),
  'max_positions': _whole(512, '[1, inf)', 'Most tokens of a row.'),
  'position_offset': _whole(0, '[0, inf)', 'First position of RoBERTa.'),
  'position_buckets': _whole(256, '[4, inf)', 'Relative positions of DeBERTa.'),
  'type_vocab_size': _whole(2, '[0, inf)', 'Rows of the token type embeddings.'),
  'activation': _choice('gelu gelu_new relu silu', 'Nonlinearity of the MLP.'),
  'convolution': _whole(0, '[0, inf)', "Width of DeBERTa's convolution, odd; 0 is none."),
  'convolution_activation': _choice('gelu gelu_new relu silu', 'Nonlinearity of the convolution.'),
  'norm_epsilon': _number(1e-12, '(0, inf)', 'Added to the variance in LayerNorm.'),
  'initializer_range': _number(0.02, '(0, inf)', 'Standard deviation of the initial weights.'),
  'pad_token_id': _whole(0, '[0, inf)', 'Id of the padding token.'),
  'embedding_dropout': _number(0.1, '[0, 1)', "Dropout of GPT-2's embeddings."),
  'hidden_dropout': _number(0.1, '[0, 1)', 'Dropout of hidden states.'),
  'attention_dropout': _number(0.1, '[0, 1)', 'Dropout of attention.'),
  'classifier_dropout': _rate('Dropout before the classifier; None is that of hidden states.'),
  'num_labels': _whole(2, '[1, inf)', 'Outputs of the head; the task decides.'),
}
# fmt: on

ALL = {
  **FIELDS,
  **{f'method.{name}': field for name, field in METHOD.items()},
  **{f'own.{name}': field for name, field in OWN.items()},
  **{f'model.fresh.{name}': field for name, field in FRESH.items()},
}


def defaults() -> dict[str, object]:
  """The sections of `FIELDS` with their defaults, nested; None is the default of some."""
  sections: dict[str, object] = {}
  for path, field in FIELDS.items():
    section, _, name = path.rpartition('.')
    inner = sections.setdefault(section, {}) if section else sections
    assert isinstance(inner, dict)
    inner[name] = field.default
  return sections


def leaves(config: Mapping[str, object] | ConfigDict, at: str = '') -> Iterator[tuple[str, object]]:
  """The fields of a config, or of the section `at`, by dotted name; a pattern's mapping is one."""
  for key, value in config.items():
    path = f'{at}.{key}' if at else str(key)
    if path not in ALL and _is_section(value):
      yield from leaves(value, path)
    else:
      yield path, value


def check(config: Mapping[str, object] | ConfigDict, at: str = '') -> None:
  """Refuses a config, or a section of one, with a field that is unknown or out of its range.

  Args:
    config: the config or section.
    at: the name of the section; '' of a whole config.

  Raises:
    ValueError: naming every such field, its value, what is allowed and what it means.
  """
  problems = []
  for path, value in leaves(config, at):
    if path not in ALL:
      problems.append(f'config has no field {path!r}. {nearest(path, ALL)}')
    elif not ALL[path].allows(value):
      field = ALL[path]
      problems.append(f'config.{path}={value!r}: expected {field.expected}. {field.meaning}')
  if problems:
    raise ValueError('\n'.join(problems))
