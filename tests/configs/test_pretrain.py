"""The base model of E2E is trained on the corpus with its vocabulary."""

from configs import pretrain


def test_the_base_model_is_trained_on_the_corpus_and_its_vocabulary():
  c = pretrain.get_config('tokenizer=runs/v=8k,x/tokenizer')
  assert (c.task, c.model.name, c.method.name) == ('corpus', 'fresh', 'full')
  assert c.data.tokenizer == 'runs/v=8k,x/tokenizer'
  fresh = c.model.fresh
  assert (fresh.num_layers, fresh.hidden_size, fresh.num_heads) == (6, 256, 4)
  assert (fresh.vocab_size, fresh.max_positions) == (8192, 512)
  assert c.train.batch_size * c.data.max_length == 2048
  toy = pretrain.get_config('tiny=true')
  assert toy.data.limit and toy.model.fresh.num_layers == 2
  assert toy.data.max_length <= toy.model.fresh.max_positions
  assert list(pretrain.sweep()) == [{'seed': 0}]
