"""Makes chats/: a toy tokenizer with chat templates, and transformers' ids of chats by each.

python tests/golden/make_chats.py        (transformers 5.24.0, tokenizers 0.23.3, jinja2 3.1.6)
"""

import json
import pathlib
import shutil

import tokenizers
import transformers
from tokenizers import decoders, pre_tokenizers, trainers

FOLDER = pathlib.Path(__file__).parent / 'chats'
SPECIAL = ['<|endoftext|>', '<|begin|>', '<|im_start|>', '<|im_end|>']
# SmolLM2's; one in Llama 3's form, with what newer templates use; one that refuses, as Mistral's.
TEMPLATES = {
  'chatml': (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
  ),
  'blocks': """{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'system' and not loop.first %}{% continue %}{% endif %}
    {%- if message.role == 'assistant' %}
        {% generation %}{{- '<|im_start|>assistant\n\n' + message.content | trim + eos_token }}
        {%- endgeneration %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n\n' + (message | tojson) + '<|im_end|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n\n' }}
{%- endif %}
""",
  'strict': (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
  ),
}
CHATS = [
  [('user', 'Hi, 日本 <b>you</b>?'), ('assistant', 'Hello.\nAll well?')],
  [('user', 'One "quoted" word'), ('assistant', ' Good '), ('user', 'And?'), ('assistant', 'No')],
  [('system', 'Be short.'), ('user', "It's 3.14"), ('assistant', 'Yes & no')],
]


def main():
  shutil.rmtree(FOLDER, ignore_errors=True)
  chats = [[{'role': role, 'content': text} for role, text in chat] for chat in CHATS]
  backend = tokenizers.Tokenizer(tokenizers.models.BPE())
  backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=300,
    special_tokens=SPECIAL,
    initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    show_progress=False,
  )
  backend.train_from_iterator([text for chat in CHATS for _, text in chat], trainer)
  cases = {}
  for name, template in TEMPLATES.items():
    tokenizer = transformers.PreTrainedTokenizerFast(
      tokenizer_object=backend, bos_token='<|begin|>', eos_token='<|im_end|>'
    )
    tokenizer.chat_template = template
    own = chats[:2] if name == 'strict' else chats
    ids = lambda chat, opening: list(
      tokenizer.apply_chat_template(chat, add_generation_prompt=opening, return_dict=False)
    )
    rows = [{'before': ids(chat[:-1], True), 'whole': ids(chat, False)} for chat in own]
    cases[name] = {'template': template, 'chats': own, 'ids': rows}
  FOLDER.mkdir()
  tokenizer.chat_template = None
  tokenizer.save_pretrained(FOLDER)
  (FOLDER / 'chats.json').write_text(json.dumps(cases, indent=1) + '\n')


if __name__ == '__main__':
  main()
