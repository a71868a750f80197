"""Pickles as torch writes them, of things that need not exist here."""

import io
import pickle


class Storage:
  """Pickled by `Pickler` as torch pickles a storage."""

  def __init__(self, kind, key, size):
    self.identity = ('storage', kind, str(key), 'cpu', size)


class Global:
  """Pickled as a reference to `module name`, which need not exist here."""

  def __init__(self, module, name):
    self.module, self.name = module, name


class Call:
  """Pickled as a call of a function."""

  def __init__(self, function, *arguments):
    self.function, self.arguments = function, arguments


class Pickler(pickle._Pickler):
  """Python's own, in Python, so that it can be taught to write names that do not exist."""

  def persistent_id(self, value):
    return value.identity if isinstance(value, Storage) else None

  def save(self, value, save_persistent_id=True):
    if isinstance(value, Global):
      self.write(f'c{value.module}\n{value.name}\n'.encode())
    elif isinstance(value, Call):
      self.save(value.function)
      self.save(value.arguments)
      self.write(pickle.REDUCE)
    else:
      super().save(value, save_persistent_id)


def pickled(value, protocol=2):
  """The bytes of a value's pickle."""
  file = io.BytesIO()
  Pickler(file, protocol).dump(value)
  return file.getvalue()


FLOAT = Global('torch', 'FloatStorage')
REBUILD = Global('torch._utils', '_rebuild_tensor_v2')


def tensor(key=0, shape=(2, 3), strides=(3, 1), offset=0, size=6, kind=FLOAT):
  """A call that makes a tensor of a storage."""
  hooks = Call(Global('collections', 'OrderedDict'))
  return Call(REBUILD, Storage(kind, key, size), offset, shape, strides, False, hooks)
