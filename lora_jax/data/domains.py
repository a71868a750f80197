"""The words of the demo's text: `DOMAINS`, one for each subject that the text is about.

All domains share the form of `name : X | slot : value` and of a sentence or two about it. Slots,
values and phrases are each domain's own. `;` separates the items of a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

Items = tuple[str, ...]
# Values, and phrases with {} for one of them; or values, each with phrases of its own.
Slot = tuple[Items, Items] | Mapping[str, Items]


class Domain(NamedTuple):
  """The words of a domain. A phrase is a predicate: it follows the name, or a pronoun.

  Attributes:
    first, last: a name is an item of `first` and one of `last`.
    openings: first sentences, with {name} and the first {phrase}.
    again: beginnings of later sentences.
    slots: what can be said, by the name of the slot.
  """

  first: Items
  last: Items
  openings: Items
  again: Items
  slots: Mapping[str, Slot]


def _items(text: str) -> Items:
  return tuple(text.split('; '))


HELD_OUT = 'recipes'

DOMAINS: dict[str, Domain] = {
  'restaurants': Domain(
    first=_items('Golden; Blue; Old; Green; Red; Silver; Happy; Royal; Quiet; Little'),
    last=_items('Spice; Mill; Eagle; Dragon; Garden; Anchor; Lantern; Oak; Swan; Table'),
    openings=_items(
      '{name} {phrase}; {name} is a restaurant that {phrase}; '
      'there is a place to eat called {name} that {phrase}; if you are hungry , {name} {phrase}'
    ),
    again=_items('it; the restaurant; this place'),
    slots={
      'food': (
        _items('French; Italian; Chinese; Indian; Japanese; English; Greek; Thai'),
        _items('serves {} food; offers {} dishes; has a menu of {} food'),
      ),
      'area': (
        _items('city centre; riverside; old town; harbour; station quarter'),
        _items('is in the {}; lies in the {}; can be found in the {}'),
      ),
      'price': {
        'cheap': _items('costs very little; has low prices; is cheap'),
        'moderate': _items('has average prices; is moderately priced; costs a fair amount'),
        'high': _items('is expensive; has high prices; costs a lot'),
      },
      'family friendly': {
        'yes': _items('welcomes children; is a good choice for families; is family - friendly'),
        'no': _items('is not for children; is for adults only; is not family - friendly'),
      },
      'rating': (
        _items('one; two; three; four; five'),
        _items('is rated {} out of five; has a customer rating of {} stars; got {} of five stars'),
      ),
    },
  ),
  'trains': Domain(
    first=_items('North; South; Coast; Valley; Night; Morning; Lake; Border; Highland'),
    last=_items('Express; Arrow; Liner; Runner; Star; Link; Flyer; Shuttle; Comet'),
    openings=_items(
      'the {name} {phrase}; the train called {name} {phrase}; '
      'passengers of the {name} should know that it {phrase}; take the {name} , which {phrase}'
    ),
    again=_items('it; the train; this service'),
    slots={
      'from': (
        _items('London; York; Bristol; Leeds; Oxford; Exeter; Bath'),
        _items('leaves from {}; departs from {}; sets out from {}'),
      ),
      'to': (
        _items('Glasgow; Cardiff; Dover; Durham; Cambridge; Brighton; Hull'),
        _items('goes to {}; runs to {}; takes you to {}; arrives in {}'),
      ),
      'hour': (
        _items('six; seven; eight; nine; ten; eleven; noon; midnight'),
        _items('starts at {}; is due at {}; is on the timetable for {}'),
      ),
      'platform': (
        _items('1; 2; 3; 4; 5; 6; 7'),
        _items('stops at platform {}; waits at platform {}; uses platform {}'),
      ),
      'state': {
        'on time': _items('is punctual; runs on time; keeps to the timetable'),
        'late': _items('is delayed; runs late; will not be on time'),
        'cancelled': _items('does not run today; has been cancelled; was taken off the timetable'),
      },
    },
  ),
  'films': Domain(
    first=_items('Broken; Last; Silent; Hidden; Paper; Winter; Burning; Distant; Lost'),
    last=_items('Promise; Letters; Horizon; Mirror; Crown; Shadows; Voices; Game; Road'),
    openings=_items(
      '{name} {phrase}; the film {name} {phrase}; {name} is a film that {phrase}; '
      'in cinemas now , {name} {phrase}'
    ),
    again=_items('it; the film; the picture'),
    slots={
      'genre': (
        _items('comedy; drama; thriller; western; musical; romance; mystery'),
        _items('is a {}; belongs to the genre of {}; was made as a {}'),
      ),
      'director': (
        _items('Anna Berg; Luis Ortega; Mary Stone; Jun Mori; Paul Kane; Ida Lund'),
        _items('was directed by {}; is the work of {}; was shot by director {}'),
      ),
      'year': (
        _items('1954; 1968; 1972; 1987; 1999; 2004; 2016'),
        _items('came out in {}; was released in {}; dates from {}'),
      ),
      'length': {
        'short': _items('is over quickly; lasts less than an hour; is a short one'),
        'long': _items('lasts more than three hours; takes its time; is very long'),
      },
      'critics': {
        'praised': _items('was praised by the critics; won several awards; had warm reviews'),
        'mixed': _items('divided the critics; had mixed reviews'),
        'panned': _items('was panned by the critics; had bad reviews; won nothing at all'),
      },
    },
  ),
  'weather': Domain(
    first=_items('Upper; Lower; East; West; Great; Saint; New; Port; Mount'),
    last=_items('Haven; Bridge; Field; Moor; Ridge; Bay; Cross; Dale; Marsh'),
    openings=_items(
      '{name} {phrase}; according to the forecast , {name} {phrase}; '
      'the region of {name} {phrase}; expect that {name} {phrase}'
    ),
    again=_items('it; the region; the place'),
    slots={
      'sky': {
        'clear': _items('has clear skies; sees plenty of sun; stays sunny'),
        'cloudy': _items('is covered in clouds; stays grey; has cloudy skies'),
        'rain': _items('gets rain; will be wet; needs an umbrella'),
        'snow': _items('gets snow; turns white; is covered in snow'),
      },
      'temperature': (
        _items('2; 5; 8; 12; 17; 21; 26; 30'),
        _items('reaches {} degrees; has a high of {} degrees; warms up to {} degrees'),
      ),
      'wind': {
        'calm': _items('has hardly any wind; lies in calm air'),
        'breezy': _items('has a light breeze; feels some wind'),
        'stormy': _items('is hit by storms; has strong gusts; braces for a storm'),
      },
      'day': (
        _items('Monday; Tuesday; Wednesday; Thursday; Friday; Saturday; Sunday'),
        _items('is in the forecast for {}; can expect this on {}; has this on {}'),
      ),
    },
  ),
  'hotels': Domain(
    first=_items('Grand; Park; Palace; Garden; Ocean; Alpine; Central; Crown; Villa'),
    last=_items('Inn; House; Lodge; Resort; Court; View; Residence; Plaza; Suites'),
    openings=_items(
      'the {name} {phrase}; guests say that the {name} {phrase}; '
      'the {name} is a hotel that {phrase}; for the night , the {name} {phrase}'
    ),
    again=_items('it; the hotel; the house'),
    slots={
      'rooms': (
        _items('12; 20; 35; 48; 60; 90; 150; 240'),
        _items('has {} rooms; offers {} rooms; counts {} rooms'),
      ),
      'view': (
        _items('the sea; the mountains; the park; the lake; the old bridge'),
        _items('looks out on {}; has a view of {}; faces {}'),
      ),
      'breakfast': {
        'included': _items('serves breakfast for free; includes breakfast in the price'),
        'extra': _items('asks extra for breakfast; does not include breakfast'),
      },
      'pets': {
        'allowed': _items('lets you bring your dog; takes pets; is open to animals'),
        'forbidden': _items('takes no animals; does not allow pets'),
      },
      'stars': (
        _items('two; three; four; five'),
        _items('has {} stars; is a {} - star hotel; was given {} stars'),
      ),
    },
  ),
  'books': Domain(
    first=_items('Secret; Glass; Iron; Forgotten; Second; Endless; White; Final; Lonely'),
    last=_items('Island; Heart; Library; Summer; River; Daughter; Clock; Song; Atlas'),
    openings=_items(
      '{name} {phrase}; the book {name} {phrase}; readers know that {name} {phrase}; '
      '{name} is a book that {phrase}'
    ),
    again=_items('it; the book; the volume'),
    slots={
      'author': (
        _items('Clara Hale; Tom Reed; Nadia Karim; Oscar Lind; Eva Novak; Sam Doyle'),
        _items('was written by {}; comes from the pen of {}; is by {}'),
      ),
      'subject': (
        _items('history; travel; gardening; music; space; crime; philosophy'),
        _items('is about {}; deals with {}; tells you all about {}'),
      ),
      'pages': (
        _items('90; 120; 200; 310; 450; 600; 800'),
        _items('has {} pages; runs to {} pages; fills {} pages'),
      ),
      'cover': {
        'hard': _items('comes as a hardback; has a hard cover'),
        'soft': _items('comes as a paperback; has a soft cover'),
      },
      'language': (
        _items('English; Spanish; German; Arabic; Russian; Korean'),
        _items('is written in {}; can be read in {}; was printed in {}'),
      ),
    },
  ),
  HELD_OUT: Domain(
    first=_items('Lemon; Pepper; Honey; Smoky; Creamy; Rustic; Spiced; Sweet; Crispy'),
    last=_items('Stew; Tart; Salad; Soup; Pie; Curry; Pancakes; Noodles; Bread'),
    openings=_items(
      '{name} {phrase}; to cook {name} , note that the dish {phrase}; '
      'our recipe for {name} {phrase}; the cook says that {name} {phrase}'
    ),
    again=_items('it; the dish; the recipe'),
    slots={
      'ingredient': (
        _items('chicken; lentils; mushrooms; salmon; potatoes; spinach; almonds; plums'),
        _items('is made with {}; calls for fresh {}; gets its flavour from {}'),
      ),
      'minutes': (
        _items('10; 15; 25; 40; 55; 75; 100'),
        _items('simmers for {} minutes; is ready after {} minutes; takes {} minutes to prepare'),
      ),
      'skill': {
        'beginner': _items('cannot go wrong; is easy to prepare; suits a first - time cook'),
        'expert': _items('asks for a trained hand; is hard to get right; needs experience'),
      },
      'heat': {
        'mild': _items('tastes mild; has no chilli in it'),
        'hot': _items('burns the tongue; comes with plenty of chilli; tastes fiery'),
      },
      'diet': {
        'vegan': _items('contains nothing from animals; is vegan'),
        'gluten free': _items('contains no wheat; is safe without gluten'),
        'none': _items('follows no diet; is not for those on a diet'),
      },
      'portions': (
        _items('two; four; six; eight; ten'),
        _items('feeds {}; makes {} portions; fills {} plates'),
      ),
    },
  ),
}
