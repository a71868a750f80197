"""Reading configs in tests."""

from ml_collections import config_dict


def leaves(config, prefix=''):
  """The fields of a config by their dotted names."""
  for key, value in config.items():
    if isinstance(value, config_dict.ConfigDict):
      yield from leaves(value, f'{prefix}{key}.')
    else:
      yield prefix + key, value
